//! Which call a request is: KES's routes and the way its router finds them, before anybody is asked for rights.

use std::fmt::Write as _;

use http::Method;

/// What KES is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Version,
    Ready,
    Status,
    Routes,
    Create,
    Import,
    Describe,
    Delete,
    List,
    Generate,
    Encrypt,
    Decrypt,
    Hmac,
    PolicyDescribe,
    PolicyRead,
    PolicyList,
    IdentityDescribe,
    IdentityList,
    SelfDescribe,
}

/// One line of the list that KES gives of its own calls.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: &'static str,
    /// Ends in `/` where a name follows.
    pub(super) path: &'static str,
    /// Longest body in bytes; 0 ignores it.
    pub(super) max_body: usize,
    /// Seconds.
    pub(super) timeout: u32,
    pub(super) call: Call,
}

const MEGABYTE: usize = 1_000_000;

/// Every call that we serve. Metrics and logs are left out: nobody here reads them.
pub(super) const ROUTES: [Route; 19] = [
    route("GET", "/version", 0, Call::Version),
    route("GET", "/v1/ready", 0, Call::Ready),
    route("GET", "/v1/status", 0, Call::Status),
    route("GET", "/v1/api", 0, Call::Routes),
    route("PUT", "/v1/key/create/", 0, Call::Create),
    route("PUT", "/v1/key/import/", MEGABYTE, Call::Import),
    route("GET", "/v1/key/describe/", 0, Call::Describe),
    route("DELETE", "/v1/key/delete/", 0, Call::Delete),
    route("GET", "/v1/key/list/", 0, Call::List),
    route("PUT", "/v1/key/generate/", MEGABYTE, Call::Generate),
    route("PUT", "/v1/key/encrypt/", MEGABYTE, Call::Encrypt),
    route("PUT", "/v1/key/decrypt/", MEGABYTE, Call::Decrypt),
    route("PUT", "/v1/key/hmac/", MEGABYTE, Call::Hmac),
    route("GET", "/v1/policy/describe/", 0, Call::PolicyDescribe),
    route("GET", "/v1/policy/read/", 0, Call::PolicyRead),
    route("GET", "/v1/policy/list/", 0, Call::PolicyList),
    route("GET", "/v1/identity/describe/", 0, Call::IdentityDescribe),
    route("GET", "/v1/identity/list/", 0, Call::IdentityList),
    route("GET", "/v1/identity/self/describe", 0, Call::SelfDescribe),
];

const fn route(method: &'static str, path: &'static str, max_body: usize, call: Call) -> Route {
    let timeout = if matches!(call, Call::Version | Call::Routes) { 10 } else { 15 };
    Route { method, path, max_body, timeout, call }
}

/// Where a path leads.
#[derive(Debug)]
pub(super) enum Found {
    /// To a call.
    Call {
        route: &'static Route,
        /// The whole path, decoded: what policies are matched with.
        path: String,
        /// What follows the route, decoded.
        name: String,
    },
    /// To this path, which the client shall use instead.
    Redirect(String),
    /// Nowhere.
    Nothing,
    /// Its percent-encoding is broken.
    Broken,
}

/// Finds the call of a path as it was sent.
pub(super) fn find(sent: &str) -> Found {
    let Some(path) = decode(sent) else { return Found::Broken };
    let with_slash = format!("{sent}/");
    if ROUTES.iter().any(|route| route.path == with_slash) {
        return Found::Redirect(with_slash);
    }
    let clean = clean(sent);
    if clean != sent {
        return Found::Redirect(encode(&clean));
    }
    let matches =
        |route: &&Route| if route.path.ends_with('/') { sent.starts_with(route.path) } else { sent == route.path };
    match ROUTES.iter().find(matches) {
        Some(route) => Found::Call { route, name: path[route.path.len()..].to_owned(), path },
        None => Found::Nothing,
    }
}

impl Route {
    /// `POST` is taken wherever `PUT` is.
    pub(super) fn takes(&self, method: &Method) -> bool {
        self.method == method.as_str() || (self.method == "PUT" && method == Method::POST)
    }
}

/// Without empty, `.` and `..` segments; a slash at the end stays.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// `None` where a `%` is not followed by two hex digits. Bytes that are no UTF-8 become replacement characters, which no
/// name may hold.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.extend(hex::decode(digits).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A path that is encoded already, fit for a header.
fn encode(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_graphic() {
            out.push(byte.into());
        } else {
            // Writing to a string can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(path: &str) -> (Call, String) {
        match find(path) {
            Found::Call { route, name, .. } => (route.call, name),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn redirect(path: &str) -> String {
        match find(path) {
            Found::Redirect(to) => to,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn names_are_what_follows_decoded() {
        assert_eq!(call("/v1/key/create/my-key"), (Call::Create, "my-key".into()));
        assert_eq!(call("/v1/key/create/"), (Call::Create, String::new()));
        assert_eq!(call("/v1/key/generate/a%2Fb%c3%a4"), (Call::Generate, "a/bä".into()));
        assert_eq!(call("/v1/key/list/a/b"), (Call::List, "a/b".into()));
        assert_eq!(call("/v1/identity/self/describe").0, Call::SelfDescribe);
    }

    #[test]
    fn unclean_paths_and_missing_slashes_are_redirected_and_others_lead_nowhere() {
        assert_eq!(redirect("/v1/key/list"), "/v1/key/list/");
        assert_eq!(redirect("/v1//key/create/x"), "/v1/key/create/x");
        assert_eq!(redirect("/v1/key/create/../delete/x"), "/v1/key/delete/x");
        assert_eq!(redirect("//nowhere/"), "/nowhere/");
        for path in ["/", "/v1", "/v1/status/", "/v1/key/bulk/decrypt/k", "/v1/identity/self/describe/"] {
            assert!(matches!(find(path), Found::Nothing), "{path}");
        }
        for path in ["/v1/key/create/%", "/v1/key/create/%2", "/v1/key/create/%+1", "/%zz"] {
            assert!(matches!(find(path), Found::Broken), "{path}");
        }
    }

    #[test]
    fn put_may_be_posted_and_nothing_else_changes() {
        let create = ROUTES.iter().find(|route| route.call == Call::Create).unwrap();
        let status = ROUTES.iter().find(|route| route.call == Call::Status).unwrap();
        assert!(create.takes(&Method::PUT) && create.takes(&Method::POST) && !create.takes(&Method::GET));
        assert!(status.takes(&Method::GET) && !status.takes(&Method::POST) && !status.takes(&Method::HEAD));
    }

    proptest::proptest! {
        #[test]
        fn any_path_leads_somewhere_and_redirects_end(path in "[/.%a-z0-9]{0,40}") {
            let mut path = format!("/{path}");
            for _ in 0..3 {
                match find(&path) {
                    Found::Redirect(to) => path = to,
                    _ => return Ok(()),
                }
            }
            proptest::prop_assert!(false, "{path} goes on for ever");
        }
    }
}
