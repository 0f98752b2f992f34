//! What each source holds at the moment.

use std::collections::HashMap;
use std::net::IpAddr;

/// Places below this number are not worth giving back.
const KEEP: usize = 64;

/// A source's place in the list: who holds something needs no second look-up to give it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

#[derive(Debug, Clone, Copy)]
struct Held {
    source: IpAddr,
    requests: usize,
    bytes: usize,
    /// Of the requests, those that nobody has reacted to.
    unanswered: usize,
}

/// By source; a source that holds nothing has no entry, so that there are never more than there are requests.
#[derive(Debug, Default)]
pub(super) struct Shares {
    places: HashMap<IpAddr, Place>,
    held: Vec<Held>,
    free: Vec<Place>,
    bytes: usize,
}

impl Shares {
    /// Requests, bytes, and requests that nobody has reacted to.
    pub(super) fn of(&self, source: IpAddr) -> (usize, usize, usize) {
        let held = self.places.get(&source).map(|place| &self.held[place.0 as usize]);
        held.map_or((0, 0, 0), |held| (held.requests, held.bytes, held.unanswered))
    }

    pub(super) fn take(&mut self, source: IpAddr, bytes: usize) -> Place {
        let Shares { places, held, free, .. } = self;
        let place = *places.entry(source).or_insert_with(|| {
            let nothing = Held { source, requests: 0, bytes: 0, unanswered: 0 };
            match free.pop() {
                Some(place) => {
                    held[place.0 as usize] = nothing;
                    place
                }
                None => {
                    held.push(nothing);
                    Place((held.len() - 1) as u32)
                }
            }
        });
        let held = &mut held[place.0 as usize];
        held.requests += 1;
        held.unanswered += 1;
        held.bytes += bytes;
        self.bytes += bytes;
        place
    }

    pub(super) fn answered(&mut self, place: Place) {
        self.held[place.0 as usize].unanswered -= 1;
    }

    pub(super) fn give_back(&mut self, place: Place, bytes: usize) {
        self.bytes -= bytes;
        let held = &mut self.held[place.0 as usize];
        held.requests -= 1;
        held.bytes -= bytes;
        if held.requests == 0 {
            self.places.remove(&held.source);
            self.free.push(place);
            if self.places.is_empty() {
                // A flood of sources is over: its memory goes back.
                self.held.clear();
                self.free.clear();
                self.held.shrink_to(KEEP);
                self.free.shrink_to(KEEP);
                self.places.shrink_to(KEEP);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}
