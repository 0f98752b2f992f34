//! What an error of a socket says about the peer, or about this machine.

use std::io;

use nix::libc;

use crate::flow::Cause;

/// What an error on a stream, or of opening one, means.
pub(super) fn of_stream(error: &io::Error) -> Cause {
    if is_our_own_want(error) {
        return Cause::Local;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        io::ErrorKind::TimedOut => Cause::Timeout,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::PermissionDenied => Cause::Unreachable,
        // rustls wraps its alerts so.
        io::ErrorKind::InvalidData => Cause::Tls,
        _ => Cause::Reset,
    }
}

/// What an error on a datagram socket means.
pub(super) fn of_datagram(error: &io::Error) -> Cause {
    if is_our_own_want(error) {
        return Cause::Local;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        _ => Cause::Unreachable,
    }
}

/// Whether this machine lacks something, so that the error says nothing about the peer: descriptors, memory, ports, an address to
/// send from; or the datagram is longer than any can be.
pub(super) fn is_our_own_want(error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::ENOSPC
            | libc::EADDRNOTAVAIL
            | libc::EADDRINUSE
            // Of `connect`: no free port (man 2 connect).
            | libc::EAGAIN
            | libc::EMSGSIZE,
        ) => true,
        Some(_) => false,
        None => matches!(
            error.kind(),
            io::ErrorKind::OutOfMemory | io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_no_fault_of_the_peers() {
        for errno in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EADDRNOTAVAIL,
            libc::EADDRINUSE,
            libc::EAGAIN,
            libc::EMSGSIZE,
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!((of_stream(&error), of_datagram(&error)), (Cause::Local, Cause::Local), "{error}");
        }
        for (errno, stream, datagram) in [
            (libc::ECONNREFUSED, Cause::Refused, Cause::Refused),
            (libc::ETIMEDOUT, Cause::Timeout, Cause::Unreachable),
            (libc::EHOSTUNREACH, Cause::Unreachable, Cause::Unreachable),
            (libc::ENETUNREACH, Cause::Unreachable, Cause::Unreachable),
            (libc::ECONNRESET, Cause::Reset, Cause::Unreachable),
            (libc::EPIPE, Cause::Reset, Cause::Unreachable),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!((of_stream(&error), of_datagram(&error)), (stream, datagram), "{error}");
        }
    }
}
