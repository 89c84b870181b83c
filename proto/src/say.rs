//! How errors are said to people: once, in one line, at the edge.

/// An error and everything that lies below it, in one line. A layer that only repeats the one above it is left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        below = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn every_layer_once() {
        let error = Layer("a", Some(Box::new(Layer("b", Some(Box::new(Layer("b", None)))))));
        assert_eq!(chain(&error), "a: b");
    }
}
