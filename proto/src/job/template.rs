//! Job files to start from, for `keyrotate generate`.

use crate::spec::Dialect;

/// A commented job file. It is valid once its placeholders (`BUCKET`, `<new-kms-key>`) are filled in; a placeholder
/// that is left is refused by its name.
#[must_use]
pub fn template(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Minio => include_str!("template/minio.yaml"),
        Dialect::MinioFlat => include_str!("template/minio-flat.yaml"),
        Dialect::Aistor => include_str!("template/aistor.yaml"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::parse;
    use crate::spec::{Filter, Options, Retry};

    const ALL: [Dialect; 3] = [Dialect::Minio, Dialect::MinioFlat, Dialect::Aistor];

    fn fill(text: &str) -> String {
        text.replace("BUCKET", "my-bucket").replace("<new-kms-key>", "my-new-key")
    }

    #[test]
    fn a_filled_template_is_a_job_over_the_whole_bucket() {
        for dialect in ALL {
            let parsed =
                parse(fill(template(dialect)).as_bytes(), "t.yaml").unwrap_or_else(|e| panic!("{dialect:?}: {e}"));
            assert_eq!(parsed.spec.dialect, dialect);
            assert_eq!(parsed.warnings, []);
            assert_eq!(parsed.spec.filter, Filter::default());
            assert_eq!(parsed.spec.options, Options::default());
            assert_eq!(parsed.spec.retry, Retry::default());
        }
    }

    #[test]
    fn an_unfilled_template_names_its_placeholders_and_nothing_else() {
        for dialect in ALL {
            let errors = parse(template(dialect).as_bytes(), "t.yaml").unwrap_err();
            assert!(errors.0.iter().all(|p| p.message.contains("placeholder")), "{errors}");
            assert!(!errors.0.is_empty());
        }
    }

    /// A line that is commented out is YAML behind `#`, with no blank or several; a comment for people has one.
    #[test]
    fn every_line_that_is_commented_out_can_be_put_in() {
        for dialect in ALL {
            let whole: String = template(dialect)
                .lines()
                .map(|line| {
                    let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
                    match rest.strip_prefix('#') {
                        Some(field) if !field.starts_with(' ') || field.starts_with("  ") => {
                            format!("{indent}{field}\n")
                        }
                        _ => format!("{line}\n"),
                    }
                })
                .collect();
            let parsed =
                parse(fill(&whole).as_bytes(), "t.yaml").unwrap_or_else(|e| panic!("{dialect:?}:\n{whole}\n{e}"));
            assert!(parsed.spec.filter.newer_than.is_some() && !parsed.spec.filter.tags.is_empty());
            assert!(parsed.spec.notify.is_some() && parsed.spec.options.rate.is_some());
        }
    }
}
