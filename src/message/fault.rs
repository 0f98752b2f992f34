//! What can be wrong with a message, and the answer each fault has.

use super::Name;

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not exactly `Method SP Request-URI SP SIP/2.0`, RFC 3261 §7.1.
    RequestLine,
    /// Another SIP version than 2.0.
    Version,
    /// Headers in the Request-URI, RFC 3261 §19.1.5.
    UriHeaders,
    /// More than `MAX_HEADER_LINES` lines.
    TooManyHeaders,
    /// A line in the header block that is no header line.
    HeaderLine,
    /// A CR without LF in the header block.
    BareCr,
    /// A LF without CR in the header block.
    BareLf,
    /// A continuation line of nothing but white space.
    BlankContinuation,
    /// The header block does not end.
    NoBlankLine,
    /// No line of this name.
    Missing(Name),
    /// More than one line of this name.
    Repeated(Name),
    /// A value that cannot be read.
    Unreadable(Name),
    /// CSeq of 2^31 or more, RFC 3261 §8.1.1.5.
    CSeqRange,
    /// The CSeq method is not that of the request line, RFC 3261 §8.1.1.5.
    MethodMismatch,
    /// Max-Forwards over 255, RFC 3261 §20.22.
    MaxForwardsRange,
    /// Content-Length beyond the end of the datagram, RFC 3261 §18.3.
    LengthBeyond,
    /// No Content-Length on a stream, RFC 3261 §18.3.
    NoLength,
    /// A Via of another protocol than SIP/2.0.
    ViaProtocol,
    /// More than `MAX_ELEMENTS` elements in a list of this name.
    TooMany(Name),
}

impl Fault {
    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Fault::Version => 505,
            Fault::TooManyHeaders => 513,
            _ => 400,
        }
    }

    /// A reason phrase that says what is wrong.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Fault::RequestLine => "Malformed Request Line",
            Fault::Version => "Version Not Supported",
            Fault::UriHeaders => "Headers In Request-URI",
            Fault::TooManyHeaders => "Too Many Header Lines",
            Fault::HeaderLine => "Malformed Header Line",
            Fault::BareCr => "Bare CR In Header",
            Fault::BareLf => "Bare LF In Header",
            Fault::BlankContinuation => "Blank Continuation Line",
            Fault::NoBlankLine => "Missing Blank Line",
            Fault::Missing(name) => missing(name),
            Fault::Repeated(name) => repeated(name),
            Fault::Unreadable(name) => unreadable(name),
            Fault::CSeqRange => "CSeq Number Out Of Range",
            Fault::MethodMismatch => "CSeq Method Mismatch",
            Fault::MaxForwardsRange => "Max-Forwards Out Of Range",
            Fault::LengthBeyond => "Content-Length Beyond Message",
            Fault::NoLength => "Missing Content-Length",
            Fault::ViaProtocol => "Via Is Not SIP/2.0",
            Fault::TooMany(name) => too_many(name),
        }
    }
}

fn missing(name: Name) -> &'static str {
    match name {
        Name::Via => "Missing Via",
        Name::From => "Missing From",
        Name::To => "Missing To",
        Name::CallId => "Missing Call-ID",
        Name::CSeq => "Missing CSeq",
        _ => "Missing Header",
    }
}

fn repeated(name: Name) -> &'static str {
    match name {
        Name::From => "Repeated From",
        Name::To => "Repeated To",
        Name::CallId => "Repeated Call-ID",
        Name::CSeq => "Repeated CSeq",
        Name::MaxForwards => "Repeated Max-Forwards",
        Name::ContentLength => "Repeated Content-Length",
        _ => "Repeated Header",
    }
}

fn unreadable(name: Name) -> &'static str {
    match name {
        Name::Via => "Malformed Via",
        Name::From => "Malformed From",
        Name::To => "Malformed To",
        Name::CallId => "Malformed Call-ID",
        Name::CSeq => "Malformed CSeq",
        Name::Contact => "Malformed Contact",
        Name::MaxForwards => "Malformed Max-Forwards",
        Name::ContentLength => "Malformed Content-Length",
        _ => "Malformed Header",
    }
}

fn too_many(name: Name) -> &'static str {
    match name {
        Name::Via => "Too Many Via Elements",
        Name::Contact => "Too Many Contact Elements",
        Name::Route => "Too Many Route Elements",
        Name::RecordRoute => "Too Many Record-Route Elements",
        Name::Path => "Too Many Path Elements",
        Name::Require => "Too Many Require Elements",
        Name::ProxyRequire => "Too Many Proxy-Require Elements",
        Name::Supported => "Too Many Supported Elements",
        Name::Unsupported => "Too Many Unsupported Elements",
        Name::ServiceRoute => "Too Many Service-Route Elements",
        _ => "Too Many Elements",
    }
}
