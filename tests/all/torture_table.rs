//! What Holdline does with each of the 49 messages of RFC 4475, and what the RFC expects.
//!
//! Each is sent as one datagram, whatever transport its Via names. `Proxy` rows pass `message/` and are answered or dropped
//! by what comes after it.

/// What Holdline does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// Goes on, every other byte as it came.
    Forward(&'static [Change]),
    /// Is answered.
    Answer(u16, &'static str, Layer),
    /// Is dropped and counted, with this metric label.
    Drop(&'static str, Layer),
    /// Only on a stream: is not whole; the rest is waited for, and nothing comes of it when the connection ends.
    Wait,
    /// Only on a stream: is two messages, each forwarded.
    Two,
}

/// Who answers or drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// `message/`: scan or check.
    Message,
    /// `proxy/`.
    Proxy,
}

/// What is changed in a message that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Our Via on top, the one below stamped with where the request came from.
    Via,
    /// Max-Forwards one less.
    MaxForwards,
    /// Max-Forwards added (RFC 3261 §16.6 step 3).
    AddMaxForwards,
    /// A REGISTER's Contacts are ours (`contact = rewrite`), where they are `sip:` or `sips:`.
    Contact,
    /// The lone foreign Route is popped.
    Route,
    /// Bytes beyond Content-Length are cut off (RFC 3261 §18.3).
    Cut,
    /// Folds are spaces (RFC 3261 §7.3.1): a stream must not be read in two ways.
    Unfold,
    /// A response to a request of ours: sent with our Via on top, which is popped.
    PopVia,
}

/// One message of the corpus.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// File name in `tests/data/torture/rfc4475`, without `.dat`.
    pub file: &'static str,
    /// Section of RFC 4475.
    pub section: &'static str,
    /// What that section expects of a proxy.
    pub expects: &'static str,
    /// What Holdline does.
    pub does: Does,
}

const fn row(file: &'static str, section: &'static str, expects: &'static str, does: Does) -> Row {
    Row { file, section, expects, does }
}

const fn refuse(status: u16, phrase: &'static str) -> Does {
    Does::Answer(status, phrase, Layer::Message)
}

/// An ordinary request. One that may begin a dialog (INVITE, SUBSCRIBE, REFER, NOTIFY without To tag, from a sender whose
/// From and Contact can be read) gets our two Record-Routes as well.
const REQUEST: Does = Does::Forward(&[Change::Via, Change::MaxForwards]);
/// An ordinary request with folds.
const FOLDED: Does = Does::Forward(&[Change::Via, Change::MaxForwards, Change::Unfold]);
/// A REGISTER whose Contact is ours afterwards.
const REGISTER: Does = Does::Forward(&[Change::Via, Change::MaxForwards, Change::Contact]);
/// A response to a request of ours.
const RESPONSE: Does = Does::Forward(&[Change::PopVia]);

/// The 13 valid messages come first, in the order of the RFC.
pub(crate) const TABLE: [Row; 49] = [
    // 3.1.1 Valid messages.
    row("wsinv", "3.1.1.1", "well formed: parse folding, odd case and compact names", FOLDED),
    row("intmeth", "3.1.1.2", "well formed: unknown method, every legal character, quoted NUL, UTF-8", REQUEST),
    row("esc01", "3.1.1.3", "well formed: %-escapes are not to be changed on the way", FOLDED),
    row("escnull", "3.1.1.4", "well formed: escaped NULs in URIs", REGISTER),
    row(
        "esc02",
        "3.1.1.5",
        "well formed: the method and a header name have % in them, which is no escape there",
        // RE%47IST%45R is not REGISTER, and its Contacts stay.
        REQUEST,
    ),
    row("lwsdisp", "3.1.1.6", "well formed: no space between display name and <", REQUEST),
    row("longreq", "3.1.1.7", "well formed: long values everywhere, to be forwarded whole", REQUEST),
    row(
        "dblreq",
        "3.1.1.8",
        "one REGISTER; octets beyond Content-Length are ignored and not taken for another request",
        Does::Forward(&[Change::Via, Change::MaxForwards, Change::Contact, Change::Cut]),
    ),
    row("semiuri", "3.1.1.9", "well formed: the ; belongs to the user part of the Request-URI", FOLDED),
    row("transports", "3.1.1.10", "well formed: Vias of known and unknown transports", REQUEST),
    row(
        "mpart01",
        "3.1.1.11",
        "well formed: binary multipart body, not to be changed",
        Does::Forward(&[Change::Via, Change::MaxForwards, Change::Route]),
    ),
    row("unreason", "3.1.1.12", "well formed: UTF-8 in the reason phrase", RESPONSE),
    row("noreason", "3.1.1.13", "well formed: empty reason phrase", RESPONSE),
    // 3.1.2 Invalid messages.
    row(
        "badinv01",
        "3.1.2.1",
        "400: Via with empty elements, Contact with empty parameters",
        refuse(400, "Malformed Via"),
    ),
    row(
        "clerr",
        "3.1.2.2",
        "400 over UDP: Content-Length beyond the datagram",
        refuse(400, "Content-Length Beyond Message"),
    ),
    row("ncl", "3.1.2.3", "an error: negative Content-Length", refuse(400, "Malformed Content-Length")),
    row("scalar02", "3.1.2.4", "400 for the CSeq beyond its range", refuse(400, "CSeq Number Out Of Range")),
    row(
        "scalarlg",
        "3.1.2.5",
        "discard: a response with a CSeq beyond its range",
        Does::Drop("malformed_response", Layer::Message),
    ),
    row("quotbal", "3.1.2.6", "400: display name without closing quote", refuse(400, "Malformed To")),
    row(
        "ltgtruri",
        "3.1.2.7",
        "400, or forward without the angle brackets around the Request-URI",
        refuse(400, "Malformed Request Line"),
    ),
    row("lwsruri", "3.1.2.8", "400, or ignore the space in the Request-URI", refuse(400, "Malformed Request Line")),
    row("lwsstart", "3.1.2.9", "400, or forward without the extra spaces", refuse(400, "Malformed Request Line")),
    row("trws", "3.1.2.10", "400, or forward without the spaces at the end", refuse(400, "Malformed Request Line")),
    row(
        "escruri",
        "3.1.2.11",
        "400, or forward without the headers in the Request-URI",
        refuse(400, "Headers In Request-URI"),
    ),
    row("baddate", "3.1.2.12", "no reason to reject where Date does not matter", REQUEST),
    row(
        "regbadct",
        "3.1.2.13",
        "400, or infer the missing <> around the Contact URI",
        refuse(400, "Malformed Contact"),
    ),
    row("badaspec", "3.1.2.14", "400, or ignore the spaces inside <>", REQUEST),
    row(
        "baddn",
        "3.1.2.15",
        "400: the error must not be passed on",
        // The comma in From. That the file in the archive lacks the blank line at its end is nothing on a datagram.
        refuse(400, "Malformed From"),
    ),
    row("badvers", "3.1.2.16", "505", refuse(505, "Version Not Supported")),
    row("mismatch01", "3.1.2.17", "400: the method differs from that in CSeq", refuse(400, "CSeq Method Mismatch")),
    row(
        "mismatch02",
        "3.1.2.18",
        "501 (for an unknown method) or 400",
        // To Holdline no method is unknown.
        refuse(400, "CSeq Method Mismatch"),
    ),
    row("bigcode", "3.1.2.19", "drop: the status is over 699", Does::Drop("bad_status_line", Layer::Message)),
    // 3.2 Transaction layer.
    row("badbranch", "3.2.1", "400, or match as RFC 2543 does: the branch is the bare magic cookie", REQUEST),
    // 3.3 Application layer.
    row("insuf", "3.3.1", "400: no Call-ID, From, To", refuse(400, "Missing From")),
    row(
        "unkscm",
        "3.3.2",
        "416 of an element that has to resolve the Request-URI",
        // Holdline resolves no Request-URI: the next hop is always the upstream, whose answer it is.
        REQUEST,
    ),
    row("novelsc", "3.3.3", "416 or 404 of an element that has to resolve the Request-URI", REQUEST),
    row(
        "unksm2",
        "3.3.4",
        "proxies treat it as any other request; the registrar answers 400",
        // Holdline keeps a binding for each address of record, as a registrar does, and has none for isbn:…
        Does::Answer(400, "Bad To URI", Layer::Proxy),
    ),
    row(
        "bext01",
        "3.3.5",
        "420 with Unsupported: noProxiesSupportThis, norDoAnyProxiesSupportThis",
        Does::Answer(420, "Bad Extension", Layer::Proxy),
    ),
    row("invut", "3.3.6", "the endpoint answers 415", REQUEST),
    row(
        "regaut01",
        "3.3.7",
        "forward with the Authorization as it is",
        // It asks for the bindings: there is no Contact.
        REQUEST,
    ),
    row("multi01", "3.3.8", "400: two of CSeq, Call-ID, From, To, Max-Forwards", refuse(400, "Repeated From")),
    row("mcl01", "3.3.9", "an error: two Content-Lengths", refuse(400, "Repeated Content-Length")),
    row("bcast", "3.3.10", "drop: the next Via is the broadcast address", Does::Drop("stray_response", Layer::Proxy)),
    row("zeromf", "3.3.11", "483", Does::Answer(483, "Too Many Hops", Layer::Proxy)),
    row("cparam01", "3.3.12", "the parameter is the Contact's, not the URI's", REGISTER),
    row("cparam02", "3.3.13", "the parameter is the URI's", REGISTER),
    row("regescrt", "3.3.14", "well formed: the escaped Route is stored, not acted on", REGISTER),
    row("sdp01", "3.3.15", "the endpoint answers 406", REQUEST),
    // 3.4 Backward compatibility.
    row(
        "inv2543",
        "3.4.1",
        "accept: no branch, no From tag, no Content-Length, no Max-Forwards",
        Does::Forward(&[Change::Via, Change::AddMaxForwards]),
    ),
];

/// What is different on a stream, where Content-Length says where a message ends (RFC 3261 §18.3). All other rows hold there,
/// too.
pub(crate) const STREAM: [Row; 6] = [
    row("dblreq", "3.1.1.8", "over a stream the octets beyond Content-Length are the next request", Does::Two),
    row("clerr", "3.1.2.2", "over a stream the rest of the body is waited for", Does::Wait),
    row("ncl", "3.1.2.3", "over a stream: 400, and the connection is closed", refuse(400, "Malformed Content-Length")),
    row("baddn", "3.1.2.15", "400; but the file in the archive lacks the blank line at its end", Does::Wait),
    row("mcl01", "3.3.9", "an error: nobody knows where the message ends", refuse(400, "Malformed Content-Length")),
    row(
        "inv2543",
        "3.4.1",
        "accept; but RFC 3261 §18.3 wants Content-Length on a stream",
        refuse(400, "Missing Content-Length"),
    ),
];

/// The bytes of a row's file.
pub(crate) fn bytes_of(file: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/torture/rfc4475/{file}.dat", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
