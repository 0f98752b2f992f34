//! Phones over UDP. They share one socket and differ by address of record, Call-ID and Contact.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::call;
use crate::tally::Tally;
use crate::{T1, Work, bind};

/// Phones behind one socket.
pub(crate) struct Phones {
    socket: UdpSocket,
    work: Work,
    local: SocketAddr,
    count: u32,
    /// REGISTERs and calls made so far, over all phones.
    made: u64,
}

/// What a datagram meant.
enum Answer {
    /// The REGISTER was granted, the call is over.
    Done { slot: usize, number: u64 },
    /// The INVITE was answered and acknowledged; this BYE is sent next.
    Established { slot: usize, number: u64, bye: String },
}

/// A request that waits for its answer.
struct Open {
    number: u64,
    text: String,
    first_sent: Instant,
    last_sent: Instant,
}

impl Phones {
    /// `count` phones that talk to `proxy`.
    pub(crate) fn bind(proxy: SocketAddr, count: u32) -> io::Result<Phones> {
        let socket = bind((proxy.ip(), 0).into())?;
        socket.connect(proxy)?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(Phones { local: socket.local_addr()?, socket, work: Work::Register, count, made: 0 })
    }

    /// Registers every phone once, and ten thousand REGISTERs at least. Fails where not one in ten is answered.
    pub(crate) fn each_once(&mut self, outstanding: usize) -> io::Result<()> {
        let wanted = u64::from(self.count).max(10_000);
        let mut tally = Tally::default();
        let deadline = Instant::now() + Duration::from_secs(60);
        while tally.completed < wanted && Instant::now() < deadline {
            let part = self.closed_loop(outstanding, Duration::from_millis(100))?;
            tally.completed += part.completed;
        }
        if tally.completed * 10 < wanted { Err(io::Error::other("the proxy does not answer")) } else { Ok(()) }
    }

    /// What is made from now on.
    pub(crate) fn turn_to(&mut self, work: Work) {
        self.work = work;
    }

    /// Keeps `outstanding` REGISTERs or calls open for `length`.
    pub(crate) fn closed_loop(&mut self, outstanding: usize, length: Duration) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let end = Instant::now() + length;
        let mut open = Vec::with_capacity(outstanding);
        for slot in 0..outstanding {
            open.push(self.send_next(slot)?);
        }
        let mut swept = Instant::now();
        let mut datagram = [0; 4096];
        let mut closed = 0;
        // What is open at the end is waited for, so that the proxy's work and the answers counted are the same.
        while closed < outstanding {
            let answer = self.receive(&mut datagram)?;
            let now = Instant::now();
            match answer {
                Some(Answer::Done { slot, number }) => {
                    if let Some(waiting) = open.get_mut(slot).filter(|waiting| waiting.number == number) {
                        tally.complete(now - waiting.first_sent);
                        if now < end {
                            *waiting = self.send_next(slot)?;
                        } else {
                            waiting.number = u64::MAX;
                            closed += 1;
                        }
                    }
                }
                Some(Answer::Established { slot, number, bye }) => {
                    if let Some(waiting) = open.get_mut(slot).filter(|waiting| waiting.number == number) {
                        self.send(&bye)?;
                        waiting.text = bye;
                        waiting.last_sent = now;
                    }
                }
                None => {}
            }
            if now - swept >= T1 {
                swept = now;
                for waiting in
                    open.iter_mut().filter(|waiting| waiting.number != u64::MAX && now - waiting.last_sent >= T1)
                {
                    if now >= end + Duration::from_secs(2) {
                        waiting.number = u64::MAX;
                        tally.lost += 1;
                        closed += 1;
                    } else {
                        waiting.last_sent = now;
                        tally.retransmitted += 1;
                        self.send(&waiting.text)?;
                    }
                }
            }
        }
        Ok(tally)
    }

    /// Makes `rate` REGISTERs or calls a second for `length`, and waits at most two seconds more for the answers.
    pub(crate) fn at_rate(&mut self, rate: u32, length: Duration) -> io::Result<Tally> {
        let total = u64::from(rate) * length.as_secs();
        let first = self.made;
        let mut sent: Vec<Instant> = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
        let mut tally = Tally::default();
        let mut datagram = [0; 4096];
        let started = Instant::now();
        self.socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        while tally.completed < total && started.elapsed() < length + Duration::from_secs(2) {
            let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            while self.made - first < due.min(total) {
                sent.push(self.send_next(0)?.first_sent);
            }
            match self.receive(&mut datagram)? {
                Some(Answer::Done { number, .. }) => {
                    if let Some(at) = number.checked_sub(first).and_then(|index| sent.get(usize::try_from(index).ok()?))
                    {
                        tally.complete(at.elapsed());
                    }
                }
                Some(Answer::Established { bye, .. }) => self.send(&bye)?,
                None => {}
            }
        }
        tally.lost = (self.made - first).saturating_sub(tally.completed);
        self.socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(tally)
    }

    fn send_next(&mut self, slot: usize) -> io::Result<Open> {
        let number = self.made;
        self.made += 1;
        let phone = number % u64::from(self.count);
        let text = match self.work {
            Work::Register => register(phone, slot, number, 1 + number / u64::from(self.count), self.local),
            Work::Call => call::invite(phone, slot, number, self.local),
        };
        self.send(&text)?;
        let now = Instant::now();
        Ok(Open { number, text, first_sent: now, last_sent: now })
    }

    fn send(&self, text: &str) -> io::Result<()> {
        match self.socket.send(text.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::ConnectionRefused && error.kind() != ErrorKind::WouldBlock => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// The next 200, if one comes soon. An INVITE's is acknowledged.
    fn receive(&self, datagram: &mut [u8]) -> io::Result<Option<Answer>> {
        match self.socket.recv(datagram) {
            Ok(length) => {
                let response = &datagram[..length];
                let Some((slot, number)) = answered(response) else { return Ok(None) };
                let Some(established) = call::established(response, slot, number, self.local) else {
                    return Ok(Some(Answer::Done { slot, number }));
                };
                self.send(&established.ack)?;
                Ok(Some(Answer::Established { slot, number, bye: established.bye }))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// A refresh as a desk phone sends it, 650 to 700 bytes long.
fn register(phone: u64, slot: usize, number: u64, cseq: u64, local: SocketAddr) -> String {
    let mut text = String::with_capacity(768);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "REGISTER sip:pbx.example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP {local};branch=z9hG4bK-{slot}-{number};rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"Desk {phone}\" <sip:{phone}@pbx.example.com>;tag=f{phone}\r\n\
         To: \"Desk {phone}\" <sip:{phone}@pbx.example.com>\r\n\
         Call-ID: 7c1f0e5b4a{phone:08}@{local}\r\n\
         CSeq: {cseq} REGISTER\r\n\
         Contact: <sip:{phone}@{local};transport=udp>\r\n\
         Expires: 3600\r\n\
         Supported: path, gruu\r\n\
         User-Agent: Desk Phone 5.9.7.2 0004f2abcdef\r\n\
         Authorization: Digest username=\"{phone}\", realm=\"pbx.example.com\", \
         nonce=\"ZzKUlmcyk2rQ0Lb9mM0sXq2hGm5o1yuT\", uri=\"sip:pbx.example.com\", \
         response=\"6629fae49393a05397450978507c4ef1\", algorithm=MD5\r\n\
         Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY\r\n\
         Content-Length: 0\r\n\r\n"
    );
    text
}

fn answered(response: &[u8]) -> Option<(usize, u64)> {
    if !response.starts_with(b"SIP/2.0 200 ") {
        return None;
    }
    let text = std::str::from_utf8(response).ok()?;
    let mut parts = text.split_once("branch=z9hG4bK-")?.1.splitn(3, ['-', ';', '\r', ',']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
