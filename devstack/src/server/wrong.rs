//! Answers that are wrong on purpose: none of S3, of another request's kind, damaged, in disorder.

use http::StatusCode;
use http::header::CONTENT_LENGTH;

use super::faults::Fault;
use super::refused;
use super::reply::{self, Reply};

/// The largest answer that is damaged.
const LARGEST: usize = 16 << 20;

/// What is answered by a fault that keeps the request from being done.
pub(super) fn instead(fault: Fault, path: &str) -> Option<Reply> {
    Some(match fault {
        Fault::SlowDown => refused(503, "SlowDown", "Please reduce your request rate.", path),
        Fault::InternalError => refused(500, "InternalError", INTERNAL, path),
        Fault::Refused(status, code, message) => refused(status, code, message, path),
        Fault::OtherRegion(region) => {
            let message = "The bucket you are attempting to access must be addressed using the specified endpoint.";
            let mut reply = refused(301, "PermanentRedirect", message, path);
            reply::set(reply.headers_mut(), "x-amz-bucket-region", region);
            reply
        }
        Fault::WebPage(status) => web_page(status),
        Fault::Nothing => {
            let mut reply = reply::empty(StatusCode::OK);
            reply::set(reply.headers_mut(), "connection", "close");
            reply
        }
        Fault::ErrorInside(code) => {
            let mut reply = refused(500, code, INTERNAL, path);
            *reply.status_mut() = StatusCode::OK;
            reply
        }
        _ => return None,
    })
}

const INTERNAL: &str = "We encountered an internal error. Please try again.";

fn web_page(status: u16) -> Reply {
    let page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><p>Please sign in<br></body></html>\n";
    let mut reply = Reply::new(page.to_owned().into());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    reply::set(reply.headers_mut(), "content-type", "text/html");
    // The body of the request was not read.
    reply::set(reply.headers_mut(), "connection", "close");
    reply
}

/// What a fault makes of the answer to a request that was done.
pub(super) async fn changed(fault: Fault, reply: Reply) -> Reply {
    let change: fn(&str) -> String = match fault {
        Fault::HalfBody => |body| body.chars().take(body.chars().count() / 2).collect(),
        Fault::LastFirst => |body| {
            with_entries(body, |entries| {
                let last = entries.pop();
                entries.splice(0..0, last);
            })
        },
        Fault::FirstTwice => |body| {
            with_entries(body, |entries| {
                let first = entries.first().cloned();
                entries.splice(0..0, first);
            })
        },
        _ => return reply,
    };
    let (mut parts, mut body) = reply.into_parts();
    let bytes = body.store_all_limited(LARGEST).await.unwrap_or_default();
    parts.headers.remove(CONTENT_LENGTH);
    Reply::from_parts(parts, change(&String::from_utf8_lossy(&bytes)).into())
}

/// A listing with its entries changed.
fn with_entries(body: &str, change: impl FnOnce(&mut Vec<String>)) -> String {
    let mut entries = Vec::new();
    let (mut before, mut rest) = (String::new(), body);
    while let Some((at, element)) = next_entry(rest) {
        let end = format!("</{element}>");
        let Some(length) = rest[at..].find(&end) else { break };
        before.push_str(&rest[..at]);
        entries.push(rest[at..at + length + end.len()].to_owned());
        rest = &rest[at + length + end.len()..];
    }
    change(&mut entries);
    format!("{before}{}{rest}", entries.concat())
}

fn next_entry(text: &str) -> Option<(usize, &'static str)> {
    let elements = ["Contents", "Version", "DeleteMarker"];
    elements.into_iter().filter_map(|element| Some((text.find(&format!("<{element}>"))?, element))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_listing_are_moved_and_doubled_whole() {
        let list = "<L><N>n</N><Version><Key>a</Key></Version><DeleteMarker><Key>b</Key></DeleteMarker><T>f</T></L>";
        let moved = "<L><N>n</N><DeleteMarker><Key>b</Key></DeleteMarker><Version><Key>a</Key></Version><T>f</T></L>";
        assert_eq!(with_entries(list, |entries| entries.rotate_right(1)), moved);
        assert_eq!(with_entries("<L><N>n</N></L>", Vec::clear), "<L><N>n</N></L>");
    }

    #[tokio::test]
    async fn half_an_answer_says_that_it_is_whole() {
        let half = changed(Fault::HalfBody, reply::xml("<a>12345678</a>".to_owned())).await;
        let (parts, mut body) = half.into_parts();
        assert_eq!(parts.headers.get(CONTENT_LENGTH), None);
        assert_eq!(body.store_all_limited(LARGEST).await.unwrap(), "<a>1234");
    }
}
