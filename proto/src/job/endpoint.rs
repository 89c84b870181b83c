//! The notify endpoint and its token: what may be called, and sent, by a fleet that stands inside somebody's network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::tree::clip;
use super::values::{Bad, bad, is_placeholder, placeholder};

/// An http or https address. Unless `allow_private`, its host must not be a literal loopback, link-local or private
/// address (a name that resolves to one is looked at when it is called).
pub(super) fn endpoint(text: &str, allow_private: bool) -> Result<String, Bad> {
    if is_placeholder(text) {
        return placeholder(text, "write the address to POST to, or remove `notify`");
    }
    let usual = "write it like `https://hooks.example.com/path`";
    let scheme = text.get(..8).filter(|s| s.eq_ignore_ascii_case("https://"));
    let scheme = scheme.or_else(|| text.get(..7).filter(|s| s.eq_ignore_ascii_case("http://")));
    let Some(scheme) = scheme else {
        return bad("is not an http or https address", usual);
    };
    if text.len() > 2048 || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return bad("is not an address: it has characters that an address has not", usual);
    }
    let rest = &text[scheme.len()..];
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return bad("must not hold a user or password", "give what the receiver asks for as `token`");
    }
    let (host, port) = split_port(authority);
    if port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        // Not quoted: a password with a slash in it would be taken for one.
        return bad("has no good port", "1 to 65535, behind the host");
    }
    match public(host) {
        None => bad(format!("`{}` is not a host", clip(host)), usual),
        Some(false) if !allow_private => {
            bad(format!("`{}` is a loopback, link-local or private address", clip(host)), "name a public host")
        }
        Some(_) => Ok(text.to_owned()),
    }
}

/// A value for the `Authorization` header. Never part of a message.
pub(super) fn token(text: &str) -> Result<Option<String>, Bad> {
    if is_placeholder(text) {
        return bad("is a placeholder left from a template", "write the token, or remove the line");
    }
    if text.len() > 8192 {
        return bad("is too long for a header", "at most 8192 characters");
    }
    if !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) || text.trim() != text {
        return bad(
            "can't be sent in a header",
            "ASCII letters, digits and signs, no line breaks, no blanks around it",
        );
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    if authority.starts_with('[') {
        return match authority.split_once(']') {
            Some((_, "")) => (authority, None),
            Some((host, port)) if port.starts_with(':') => (&authority[..=host.len()], Some(&port[1..])),
            _ => ("", None),
        };
    }
    authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
}

/// Whether the host is a name or a public address; `None`: it is no host.
fn public(host: &str) -> Option<bool> {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']')?.parse().ok().map(|address| !is_private(IpAddr::V6(address)));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let label =
        |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if name.len() > 253 || !name.split('.').all(label) {
        return None;
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return Some(false);
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if hex || last.bytes().all(|b| b.is_ascii_digit()) {
        // Some clients read `127.1`, `0x7f.0.0.1` and `2130706433` as addresses too; only the plain form is taken.
        return name.parse::<Ipv4Addr>().ok().map(|address| !is_private(IpAddr::V4(address)));
    }
    Some(true)
}

/// Whether an address is loopback, link-local, private or of no single machine, in whatever clothes.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v4(v4: Ipv4Addr) -> bool {
    let [a, b, ..] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_multicast() || shared || a == 0 || a >= 240
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Unspecified, loopback, and IPv4 in its old clothes (`::a.b.c.d`, `::ffff:a.b.c.d`).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => embedded(high, low),
        // NAT64 and 6to4 carry an IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [first, ..] => first & 0xfe00 == 0xfc00 || first & 0xff80 == 0xfe80 || first & 0xff00 == 0xff00,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_refused_in_every_form() {
        for host in [
            "127.0.0.1",
            "127.8.9.10:80",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "[::1]",
            "[::]:8080",
            "[::ffff:10.0.0.1]",
            "[fe80::1]",
            "[fd00::1]",
            "[fec0::1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[::127.0.0.1]",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            let url = format!("http://{host}/x");
            let refused = endpoint(&url, false).unwrap_err();
            assert!(refused.message.contains("private"), "{host}: {refused:?}");
            assert_eq!(endpoint(&url, true), Ok(url));
        }
    }

    #[test]
    fn what_is_no_plain_address_is_refused_even_where_private_ones_are_allowed() {
        for url in [
            "",
            "ftp://a.example",
            "https://",
            "https:///x",
            "//a.example",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0x7f000001",
            "http://017700000001",
            "http://a:b@c.example",
            "http://a.example:0",
            "http://a.example:x",
            "http://a.example:65536",
            "http://a b.example",
            "http://a\\b.example",
            "http://[fe80::1%25eth0]/",
            "http://[::1",
            "http://[::1]x",
            "http://bücher.example",
            "http://a..b",
            "http://%31.example",
        ] {
            assert!(endpoint(url, true).is_err(), "{url}");
        }
    }

    #[test]
    fn public_hosts_pass() {
        for url in [
            "https://notify.endpoint",
            "HTTPS://a.example:8443/x?y#z",
            "http://93.184.216.34",
            "http://[2606:2800::1]:80/",
            "http://hooks",
            "http://a.example./",
        ] {
            assert_eq!(endpoint(url, false).as_deref(), Ok(url));
        }
    }

    #[test]
    fn a_token_fits_a_header_and_is_never_shown() {
        assert_eq!(token("Bearer xxxxx"), Ok(Some("Bearer xxxxx".into())));
        assert_eq!(token(""), Ok(None));
        for text in ["s3cret\r\nX-Evil: 1", "s3cret\n", " s3cret", "s3crét", "<s3cret>"] {
            let refused = token(text).unwrap_err();
            assert!(!format!("{refused:?}").contains("s3cr"), "{refused:?}");
        }
    }
}
