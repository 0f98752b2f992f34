//! A REGISTER on its way up: its Contacts become ours.

use super::{Forwarded, Refusal, up, via};
use crate::message::{Edit, Message};
use crate::proxy::edge::Edge;
use crate::proxy::registrar::contact::{self, Upward};
use crate::proxy::site::Site;

/// The bytes, and what its Contacts became. `Err`: what to answer.
pub(crate) fn up(request: &Message, from: &Edge, to: &Edge, site: &Site) -> Result<(Forwarded, Upward), Refusal> {
    let advertised = contact::Advertised { sent_by: &to.sent_by, transport: to.transport };
    let source = contact::Source { source: from.remote, transport: from.transport };
    let mut edit = Edit::new(request);
    let upward = contact::rewrite_register(request, &mut edit, &site.key, site.settings.contact, &source, &advertised)
        .map_err(|refusal| Refusal::new(refusal.status(), refusal.phrase()))?;
    up::hop(request, from, &mut edit, site);
    let branch = via::push(request, from, to, &mut edit, site);
    Ok((Forwarded { bytes: edit.finish(), branch }, upward))
}
