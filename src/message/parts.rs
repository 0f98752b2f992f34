//! What every message is asked for several times on its way, read once.

use super::access::CSeq;
use super::scan::Message;
use super::{Name, NameAddr, Uri, Via};

/// The parts that were read; `None` for one that is absent or cannot be read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    top_via: Option<Via>,
    target: Option<Uri>,
    cseq: Option<CSeq>,
    from: Option<NameAddr>,
    to: Option<NameAddr>,
}

impl Parts {
    /// Of a message whose start line and header lines have been found.
    pub(super) fn read(message: &Message) -> Parts {
        let buf: &[u8] = message.bytes();
        let address = |name| NameAddr::parse(buf, message.first(name)?.value);
        Parts {
            top_via: message.list(Name::Via).next().and_then(|element| Via::parse(buf, element.span)),
            target: if message.is_request() { Uri::parse(buf, message.request_uri()) } else { None },
            cseq: message.first(Name::CSeq).and_then(|header| CSeq::parse(buf, header.value)),
            from: address(Name::From),
            to: address(Name::To),
        }
    }
}

impl Message {
    /// The Request-URI, taken apart; `None` for a response, and where it is no URI.
    pub fn target(&self) -> Option<&Uri> {
        self.parts().target.as_ref()
    }

    /// The topmost Via; `None` if there is none, or it cannot be read.
    pub fn top_via(&self) -> Option<&Via> {
        self.parts().top_via.as_ref()
    }

    /// The first CSeq; `None` if absent or unreadable, or the number has more than 32 bits.
    pub fn cseq(&self) -> Option<CSeq> {
        self.parts().cseq
    }

    /// From; `None` if absent or unreadable.
    pub fn from(&self) -> Option<NameAddr> {
        self.parts().from
    }

    /// To; `None` if absent or unreadable.
    pub fn to(&self) -> Option<NameAddr> {
        self.parts().to
    }
}
