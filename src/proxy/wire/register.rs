//! A REGISTER on its way up: its Contacts become ours.

use super::{Forwarded, Refusal, up, via};
use crate::message::{Edit, Message};
use crate::proxy::edge::Edge;
use crate::proxy::marks::{BindingId, IdParts};
use crate::proxy::registrar::contact::{self, Known, Upward};
use crate::proxy::site::Site;

/// The bytes of a REGISTER of this address of record, and what its Contacts became. `known`: of what makes a Contact's ID and its URI, the ID and what its binding is. `Err`: what to answer.
pub(crate) fn up(
    (request, aor): (&Message, &str),
    from: &Edge,
    to: &Edge,
    site: &Site,
    known: impl FnMut(&IdParts<'_>, &[u8]) -> (BindingId, Known),
) -> Result<(Forwarded, Upward), Refusal> {
    let advertised = contact::Advertised { sent_by: &to.sent_by, transport: to.transport };
    let source = contact::Source { aor, source: from.remote, transport: from.transport };
    let mut edit = Edit::new(request);
    let (key, mode) = (&site.key, site.settings.contact);
    let upward = contact::rewrite_register(request, &mut edit, key, mode, &source, &advertised, known)
        .map_err(|refusal| Refusal::new(refusal.status(), refusal.phrase()))?;
    up::hop(request, from, &mut edit, site, |_| false);
    let branch = via::push(request, from, to, &mut edit, site);
    Ok((Forwarded { bytes: edit.finish(), branch }, upward))
}
