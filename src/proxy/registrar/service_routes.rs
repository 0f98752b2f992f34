//! What the PBX told handsets to put into the Routes of their requests (Service-Route, RFC 3608).
//!
//! A handset obeys, and sends it as its only Route. By itself that looks like one that was told of another proxy.

use std::collections::VecDeque;

use crate::message::{Message, Name, NameAddr};

/// Different URIs remembered; the one that was handed out longest ago goes first. A PBX has one for each of its edges.
const MOST: usize = 16;
/// A longer URI is not remembered.
const LONGEST: usize = 512;

/// The URIs of the Service-Routes in 2xx to REGISTER.
#[derive(Debug, Default)]
pub(crate) struct ServiceRoutes(VecDeque<Box<[u8]>>);

impl ServiceRoutes {
    /// Notes what a REGISTER's 2xx hands out.
    pub(super) fn note(&mut self, response: &Message) {
        let buf = response.bytes();
        for element in response.list(Name::ServiceRoute) {
            let Some(uri) = NameAddr::parse(buf, element.span).map(|address| address.uri.of(buf)) else { continue };
            if self.0.back().is_some_and(|newest| **newest == *uri) || uri.len() > LONGEST {
                continue;
            }
            self.0.retain(|known| **known != *uri);
            if self.0.len() == MOST {
                self.0.pop_front();
            }
            self.0.push_back(uri.into());
        }
    }

    /// Whether this URI was handed out. Handsets copy it as it is.
    pub(crate) fn knows(&self, uri: &[u8]) -> bool {
        self.0.iter().any(|known| **known == *uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_out(routes: &str) -> Message {
        let text = format!("SIP/2.0 200 OK\r\nService-Route: {routes}\r\nContent-Length: 0\r\n\r\n");
        Message::scan(text.into()).expect("a message")
    }

    #[test]
    fn the_newest_sixteen_are_known() {
        let mut routes = ServiceRoutes::default();
        routes.note(&handed_out("<sip:edge1.example;lr>, \"Core\" <sip:core.example;lr>"));
        assert!(routes.knows(b"sip:edge1.example;lr") && routes.knows(b"sip:core.example;lr"));
        assert!(!routes.knows(b"sip:edge2.example;lr") && !routes.knows(b"sip:edge1.example"));
        for n in 2..17 {
            routes.note(&handed_out(&format!("<sip:edge{n}.example;lr>")));
            routes.note(&handed_out("<sip:core.example;lr>"));
        }
        assert_eq!(routes.0.len(), MOST);
        assert!(routes.knows(b"sip:core.example;lr") && routes.knows(b"sip:edge2.example;lr"));
        assert!(!routes.knows(b"sip:edge1.example;lr"), "the oldest made room");
        routes.note(&handed_out(&format!("<sip:{}.example;lr>", "x".repeat(LONGEST))));
        assert_eq!(routes.0.len(), MOST);
    }
}
