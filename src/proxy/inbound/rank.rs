//! What a request is to admission: whose it is, and whether this PBX has served that handset.

use std::time::Instant;

use super::route::mark;
use crate::flow::{Side, source_of};
use crate::message::{Message, Method};
use crate::proxy::admission::Rank;
use crate::proxy::edge::Edge;
use crate::proxy::registrar::bindings::Binding;
use crate::proxy::registrar::{Registrar, contact};
use crate::proxy::site::Site;
use crate::upstream::Standing;

/// The rank of a request that begins an exchange.
pub(crate) fn rank(request: &Message, from: &Edge, site: &Site, registrar: &mut Registrar, now: Instant) -> Rank {
    let registers = request.method() == Method::Register;
    if !registers
        && request.to_tag().is_some()
        && let Some((id, _)) = mark(request, &site.key)
    {
        // Others may have seen a mark of a handset's: it is believed at the handset's own address.
        let own = |binding: &Binding| source_of(binding.source.ip()) == source_of(from.remote.ip());
        if from.side == Side::Upstream || registrar.bindings().get(&id).is_some_and(own) {
            return Rank::Reserved;
        }
    }
    if from.side == Side::Upstream {
        return Rank::Served;
    }
    // A REGISTER is about whom its To names, anything else is from whom its From names: for a handset both are the same.
    let address = if registers { request.to() } else { request.from() };
    let aor = address.and_then(|address| contact::aor_of(request.bytes(), address.uri));
    let standing = match aor {
        Some(aor) => registrar.standing(site.handset(&aor, from.remote.ip()), now),
        None => registrar.standing_of_nobody(now),
    };
    of(standing, registers)
}

/// The rank of a handset's request.
pub(crate) fn of(standing: Standing, registers: bool) -> Rank {
    match standing {
        Standing::Served if registers => Rank::Reserved,
        Standing::Served => Rank::Served,
        Standing::Alike => Rank::Alike,
        Standing::Unserved => Rank::Unserved,
    }
}
