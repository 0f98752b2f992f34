//! Header names and methods as closed lists; everything else is `Other` and travels as bytes.

use super::Span;

/// The header fields that Holdline looks into. Compact forms (RFC 3261 §7.3.3) map to the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Name {
    /// `Via`, `v`.
    Via,
    /// `From`, `f`.
    From,
    /// `To`, `t`.
    To,
    /// `Call-ID`, `i`.
    CallId,
    /// `CSeq`.
    CSeq,
    /// `Max-Forwards`.
    MaxForwards,
    /// `Contact`, `m`.
    Contact,
    /// `Route`.
    Route,
    /// `Record-Route`.
    RecordRoute,
    /// `Path`, RFC 3327.
    Path,
    /// `Expires`.
    Expires,
    /// `Min-Expires`.
    MinExpires,
    /// `Content-Length`, `l`.
    ContentLength,
    /// `Require`.
    Require,
    /// `Proxy-Require`.
    ProxyRequire,
    /// `Supported`, `k`.
    Supported,
    /// `Unsupported`.
    Unsupported,
    /// `User-Agent`.
    UserAgent,
    /// `Retry-After`.
    RetryAfter,
    /// `Authorization`.
    Authorization,
    /// `Proxy-Authorization`.
    ProxyAuthorization,
    /// `Service-Route`, RFC 3608.
    ServiceRoute,
    /// Any other, travelling as bytes.
    Other,
}

impl Name {
    /// How many names there are, for tables.
    pub(crate) const COUNT: usize = Name::Other as usize + 1;

    /// The name for these bytes, in any case, full or compact.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Name {
        let is = |name: &str| bytes.eq_ignore_ascii_case(name.as_bytes());
        let first = bytes.first().map_or(0, |b| b | 0x20);
        match (bytes.len(), first) {
            (1, b'v') => Name::Via,
            (1, b'f') => Name::From,
            (1, b't') => Name::To,
            (1, b'i') => Name::CallId,
            (1, b'm') => Name::Contact,
            (1, b'l') => Name::ContentLength,
            (1, b'k') => Name::Supported,
            (2, b't') if is("To") => Name::To,
            (3, b'v') if is("Via") => Name::Via,
            (4, b'f') if is("From") => Name::From,
            (4, b'c') if is("CSeq") => Name::CSeq,
            (4, b'p') if is("Path") => Name::Path,
            (5, b'r') if is("Route") => Name::Route,
            (7, b'c') if is("Call-ID") => Name::CallId,
            (7, b'c') if is("Contact") => Name::Contact,
            (7, b'e') if is("Expires") => Name::Expires,
            (7, b'r') if is("Require") => Name::Require,
            (9, b's') if is("Supported") => Name::Supported,
            (10, b'u') if is("User-Agent") => Name::UserAgent,
            (11, b'm') if is("Min-Expires") => Name::MinExpires,
            (11, b'r') if is("Retry-After") => Name::RetryAfter,
            (11, b'u') if is("Unsupported") => Name::Unsupported,
            (12, b'm') if is("Max-Forwards") => Name::MaxForwards,
            (12, b'r') if is("Record-Route") => Name::RecordRoute,
            (13, b'a') if is("Authorization") => Name::Authorization,
            (13, b'p') if is("Proxy-Require") => Name::ProxyRequire,
            (13, b's') if is("Service-Route") => Name::ServiceRoute,
            (14, b'c') if is("Content-Length") => Name::ContentLength,
            (19, b'p') if is("Proxy-Authorization") => Name::ProxyAuthorization,
            _ => Name::Other,
        }
    }

    /// The full name as RFC 3261 spells it; `Other` has none.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Via => "Via",
            Name::From => "From",
            Name::To => "To",
            Name::CallId => "Call-ID",
            Name::CSeq => "CSeq",
            Name::MaxForwards => "Max-Forwards",
            Name::Contact => "Contact",
            Name::Route => "Route",
            Name::RecordRoute => "Record-Route",
            Name::Path => "Path",
            Name::Expires => "Expires",
            Name::MinExpires => "Min-Expires",
            Name::ContentLength => "Content-Length",
            Name::Require => "Require",
            Name::ProxyRequire => "Proxy-Require",
            Name::Supported => "Supported",
            Name::Unsupported => "Unsupported",
            Name::UserAgent => "User-Agent",
            Name::RetryAfter => "Retry-After",
            Name::Authorization => "Authorization",
            Name::ProxyAuthorization => "Proxy-Authorization",
            Name::ServiceRoute => "Service-Route",
            Name::Other => "",
        }
    }
}

/// The full name behind a compact one (RFC 3261 §7.3.3 and the IANA registry); itself where it is no compact name.
pub(crate) fn full_name(name: &[u8]) -> &[u8] {
    let [letter] = name else { return name };
    match letter | 0x20 {
        b'a' => b"Accept-Contact",
        b'b' => b"Referred-By",
        b'c' => b"Content-Type",
        b'd' => b"Request-Disposition",
        b'e' => b"Content-Encoding",
        b'f' => b"From",
        b'i' => b"Call-ID",
        b'j' => b"Reject-Contact",
        b'k' => b"Supported",
        b'l' => b"Content-Length",
        b'm' => b"Contact",
        b'n' => b"Identity-Info",
        b'o' => b"Event",
        b'r' => b"Refer-To",
        b's' => b"Subject",
        b't' => b"To",
        b'u' => b"Allow-Events",
        b'v' => b"Via",
        b'x' => b"Session-Expires",
        b'y' => b"Identity",
        _ => name,
    }
}

/// One header line. Folds are in it only where the message has a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which it is.
    pub name: Name,
    /// The name as it was written.
    pub name_span: Span,
    /// The value, trimmed.
    pub value: Span,
    /// The whole line, with the final CRLF.
    pub line: Span,
}

/// Request methods. Method names are case-sensitive (RFC 3261 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// RFC 3261 §10.
    Register,
    /// RFC 3261 §13.
    Invite,
    /// RFC 3261 §13, §17.
    Ack,
    /// RFC 3261 §9.
    Cancel,
    /// RFC 3261 §15.
    Bye,
    /// RFC 3261 §11.
    Options,
    /// RFC 6665.
    Subscribe,
    /// RFC 6665.
    Notify,
    /// RFC 3515.
    Refer,
    /// RFC 3428.
    Message,
    /// RFC 6086.
    Info,
    /// RFC 3311.
    Update,
    /// RFC 3262.
    Prack,
    /// RFC 3903.
    Publish,
    /// Any other, travelling as bytes.
    Other,
}

impl Method {
    /// All methods, in the order metrics are registered.
    pub const ALL: [Method; 15] = [
        Method::Register,
        Method::Invite,
        Method::Ack,
        Method::Cancel,
        Method::Bye,
        Method::Options,
        Method::Subscribe,
        Method::Notify,
        Method::Refer,
        Method::Message,
        Method::Info,
        Method::Update,
        Method::Prack,
        Method::Publish,
        Method::Other,
    ];

    /// The method with exactly this name.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Method {
        match bytes {
            b"REGISTER" => Method::Register,
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"CANCEL" => Method::Cancel,
            b"BYE" => Method::Bye,
            b"OPTIONS" => Method::Options,
            b"SUBSCRIBE" => Method::Subscribe,
            b"NOTIFY" => Method::Notify,
            b"REFER" => Method::Refer,
            b"MESSAGE" => Method::Message,
            b"INFO" => Method::Info,
            b"UPDATE" => Method::Update,
            b"PRACK" => Method::Prack,
            b"PUBLISH" => Method::Publish,
            _ => Method::Other,
        }
    }

    /// The name on the wire, also the metric label; `other` for the rest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Register => "REGISTER",
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Cancel => "CANCEL",
            Method::Bye => "BYE",
            Method::Options => "OPTIONS",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Refer => "REFER",
            Method::Message => "MESSAGE",
            Method::Info => "INFO",
            Method::Update => "UPDATE",
            Method::Prack => "PRACK",
            Method::Publish => "PUBLISH",
            Method::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_by_its_own_spelling_in_any_case() {
        for (spelling, name) in [
            ("via", Name::Via),
            ("V", Name::Via),
            ("cAlL-iD", Name::CallId),
            ("i", Name::CallId),
            ("m", Name::Contact),
            ("L", Name::ContentLength),
            ("k", Name::Supported),
            ("f", Name::From),
            ("t", Name::To),
            ("Content-Length ", Name::Other),
            ("", Name::Other),
            ("c", Name::Other),
            ("C%6Fntact", Name::Other),
        ] {
            assert_eq!(Name::of(spelling.as_bytes()), name, "{spelling}");
        }
        for name in [Name::MinExpires, Name::ServiceRoute, Name::ProxyRequire, Name::Authorization, Name::Unsupported] {
            assert_eq!(Name::of(name.as_str().to_ascii_uppercase().as_bytes()), name);
        }
    }

    #[test]
    fn method_names_are_case_sensitive() {
        assert_eq!(Method::of(b"REGISTER"), Method::Register);
        assert_eq!(Method::of(b"Register"), Method::Other);
        for method in Method::ALL {
            assert_eq!(Method::of(method.as_str().as_bytes()), method);
        }
    }
}
