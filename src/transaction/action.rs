//! What the four machines ask of the table that owns them. One byte each, queued inline: a machine holds no messages.

/// Asked by a client machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientAction {
    /// Send the request for the first time.
    Send,
    /// Send the request again (Timers A and E).
    Resend,
    /// Pass the response to the caller.
    Deliver,
    /// Send the ACK for a non-2xx final answer to INVITE, RFC 3261 §17.1.1.3.
    Ack,
    /// Send the CANCEL that was asked for.
    Cancel,
    /// Timer C ran out: the caller has to cancel, RFC 3261 §16.8.
    TimerC,
    /// No final answer in time (Timers B and F, or after a CANCEL).
    Timeout,
    /// The transport failed.
    TransportError,
    /// Only retransmissions are waited for from here on (Timers D and K): may be evicted.
    Completed,
    /// A 2xx answered the INVITE: only more of them are waited for (Timer M). May be evicted a while from now.
    Answered,
    /// Gone.
    Ended,
}

/// Asked by a server machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerAction {
    /// Send the response and keep it for retransmissions of the request.
    Send,
    /// Send the response and keep nothing: a 2xx to INVITE is retransmitted end to end, RFC 6026 §7.1.
    Pass,
    /// Send the kept response, if there is one, again.
    Replay,
    /// The ACK belongs to the caller (it acknowledges a 2xx), RFC 6026 §7.1.
    PassAck,
    /// Only retransmissions are waited for from here on (Timers I and J, or abandoned): may be evicted.
    Completed,
    /// The INVITE has its final answer: only the ACK, and more 2xx, are waited for (Timers H and L). May be evicted a while from now.
    Answered,
    /// Gone.
    Ended,
}

/// A queue of at most four actions: no event causes more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Actions<A>([Option<A>; 4]);

impl<A: Copy> Actions<A> {
    pub(super) fn new() -> Self {
        Actions([None; 4])
    }

    pub(super) fn push(&mut self, action: A) {
        let free = self.0.iter_mut().find(|slot| slot.is_none());
        debug_assert!(free.is_some(), "a machine queued more than four actions");
        if let Some(slot) = free {
            *slot = Some(action);
        }
    }

    pub(super) fn pop(&mut self) -> Option<A> {
        let first = self.0[0].take();
        self.0.rotate_left(1);
        first
    }
}
