//! The configuration file and the files it names are read again when they change.
//!
//! What is compared is content, not times: a Kubernetes volume changes by a swap of a symbolic link, and a tool may rewrite a
//! file with what it held before. A change is read when two looks in a row have seen the same: a file caught half-written
//! may well be valid, and mean something else. What cannot be used changes nothing; whatever repairs it is the next change.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};

use super::contents::{Contents, look};
use super::reload::{Reloader, Stopped};

/// Files are looked at this often.
const EVERY: Duration = Duration::from_secs(2);

/// Watches the files for as long as the driver takes what is in them; at once on SIGHUP.
pub(super) async fn watch(mut reloader: Reloader, mut hangup: Signal) {
    let began = look(reloader.files()).await;
    reloader.began_with(began.clone());
    let mut looks = Looks { last: began.clone(), read: began };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => false,
            received = hangup.recv() => received.is_some(),
        };
        if looks.settled(look(reloader.files()).await, asked)
            && let Err(Stopped) = reloader.read(&looks.read, asked).await
        {
            return;
        }
    }
}

/// What was seen, and what of it was read.
struct Looks {
    last: Contents,
    read: Contents,
}

impl Looks {
    /// Whether it is time to read: something has changed, and stayed as it is since the last look; or a
    /// signal asks for it.
    fn settled(&mut self, now: Contents, asked: bool) -> bool {
        let due = asked || (now == self.last && now != self.read);
        if due {
            self.read.clone_from(&now);
        }
        self.last = now;
        due
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn file(text: Option<&str>) -> Contents {
        Contents::from([(PathBuf::from("holdline.toml"), text.map(|text| text.as_bytes().to_vec()))])
    }

    #[test]
    fn a_file_is_read_when_it_has_stayed_the_same_for_two_looks() {
        let (old, half, whole) = (file(Some("old")), file(Some("ne")), file(Some("new")));
        let mut looks = Looks { last: old.clone(), read: old.clone() };
        assert!(!looks.settled(old.clone(), false));
        for caught in [file(None), half, whole.clone()] {
            assert!(!looks.settled(caught, false), "it may still be written");
        }
        assert!(looks.settled(whole.clone(), false));
        assert!(!looks.settled(whole.clone(), false), "once");
        assert!(looks.settled(whole.clone(), true), "asked");
        assert!(!looks.settled(old.clone(), false));
        assert!(!looks.settled(whole.clone(), false), "put back before it was read");
        assert!(!looks.settled(whole, false));
        assert!(looks.settled(old, true), "asked, without a second look");
    }
}
