//! What a proxy must look at before it forwards (RFC 3261 §16.3). Schemes are the upstream's business: the next hop does not
//! depend on them. Neither does Require, which is the endpoint's.

use crate::flow::Side;
use crate::message::{Contact, Message, Method, Name, Scheme, Uri};
use crate::proxy::site::Site;
use crate::proxy::wire::Refusal;

/// Loops and Proxy-Require.
pub(crate) fn validate(side: Side, request: &Message, site: &Site) -> Result<(), Refusal> {
    let buf = request.bytes();
    let hash = || site.key.loop_hash(side, request.request_uri().of(buf));
    let looped = request.vias().flatten().filter_map(|via| via.branch).any(|branch| {
        let branch = branch.of(buf);
        // Upstream may send a call back to us for another handset (a spiral): only the same Request-URI in the
        // same direction is a loop. A handset that sends us what we sent is one in any case.
        site.key.is_our_branch(branch) && (side == Side::Phone || site.key.loop_hash_of(branch) == Some(hash()))
    });
    if looped {
        return Err(Refusal::new(482, "Loop Detected"));
    }
    let unknown: Vec<String> = request
        .list(Name::ProxyRequire)
        .map(|element| String::from_utf8_lossy(element.span.of(buf)).into_owned())
        .filter(|tag| !tag.is_empty())
        .collect();
    if !unknown.is_empty() {
        let unsupported = ("Unsupported", unknown.join(", ").into());
        return Err(Refusal { header: Some(unsupported), ..Refusal::new(420, "Bad Extension") });
    }
    Ok(())
}

/// RFC 3261 §16.3 item 3.
pub(crate) fn hops(request: &Message) -> Result<(), Refusal> {
    match request.max_forwards() {
        Some(0) => Err(Refusal::new(483, "Too Many Hops")),
        Some(_) | None => Ok(()),
    }
}

/// A request whose `sips:` the upstream cannot keep (RFC 5630 §5.3): by its Request-URI, or by the Contact that it registers.
pub(crate) fn no_sips(request: &Message) -> Result<(), Refusal> {
    let buf: &[u8] = request.bytes();
    let is_sips = |span| Uri::parse(buf, span).is_some_and(|uri| uri.scheme == Scheme::Sips);
    let registers = |contact| match contact {
        Contact::Star => false,
        Contact::Addr(addr) => is_sips(addr.uri),
    };
    let registered = request.method() == Method::Register && request.contacts().any(registers);
    let asks = request.target().is_some_and(|uri| uri.scheme == Scheme::Sips);
    if asks || registered {
        return Err(Refusal::new(416, "Unsupported URI Scheme"));
    }
    Ok(())
}
