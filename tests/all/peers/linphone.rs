//! linphonec, another real handset, calls a baresip and is called by it, through Holdline and Kamailio.

use std::fs;
use std::net::SocketAddr;

use holdline::flow::Transport;

use super::DOMAIN;
use super::baresip::Baresip;
use super::calls::{check_quiet, handset};
use super::holdline::Holdline;
use super::kamailio::Kamailio;
use super::tls::Authority;
use crate::support::installed::installed;
use crate::support::ports::free_port;
use crate::support::process::Process;
use crate::support::wait::until;

/// A running linphonec.
struct Linphone {
    process: Process,
    user: String,
    /// Its own RTP port.
    rtp: u16,
}

impl Linphone {
    /// Starts a handset of `user`, whose outbound proxy is `proxy`, without a sound card: it plays a file into its calls.
    async fn start(user: &str, proxy: SocketAddr, transport: Transport) -> Linphone {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (port, rtp) = (free_port(), free_port());
        let settings = format!(
            "[sip]\nsip_port={port}\nsip_tcp_port={port}\nguess_hostname=1\ndefault_proxy=0\n\
             [rtp]\naudio_rtp_port={rtp}\n\
             [proxy_0]\nreg_proxy=<sip:{proxy};transport={transport}>\nreg_route=<sip:{proxy};transport={transport};lr>\n\
             reg_identity=sip:{user}@{DOMAIN}\nreg_sendregister=1\nreg_expires=600\npublish=0\n\
             [auth_info_0]\nusername={user}\nuserid={user}\npasswd=secret\nrealm={DOMAIN}\n"
        );
        fs::write(folder.path().join("settings"), settings).expect("linphonec's settings");
        fs::write(folder.path().join("music.wav"), super::baresip::sound()).expect("a sound file");
        // Where it keeps its database, and complains if it cannot.
        fs::create_dir_all(folder.path().join(".local/share/linphone")).expect("a folder");
        // On this level its log counts the RTP packets of every call.
        let arguments = ["-d", "5", "-l", "log", "-c", "settings"].map(str::to_owned);
        let process = Process::start_listening(folder, "linphonec", &arguments).expect("linphonec starts");
        let mut linphone = Linphone { process, user: user.to_owned(), rtp };
        linphone.process.say("soundcard use files");
        let registered = format!("registered, identity=sip:{user}@{DOMAIN}");
        until(&registered, async || {
            linphone.process.say("status register");
            linphone.process.output().contains(&registered).then_some(())
        })
        .await;
        linphone
    }

    /// Waits until it has printed this.
    async fn said(&mut self, what: &str) {
        until(&format!("{}: {what}", self.user), async || {
            let ended = self.process.ended();
            assert!(ended.is_none(), "linphonec ended with {ended:?}: {}", self.process.output());
            self.process.output().contains(what).then_some(())
        })
        .await;
    }

    /// Plays its file into the current call.
    fn play(&mut self) {
        let file = self.process.file("music.wav");
        self.process.say(&format!("play {}", file.display()));
    }

    /// How many RTP packets it has received, by its own count, in each stream that is over.
    fn received(&self) -> Vec<u64> {
        let log = self.process.read("log");
        let counts = log.lines().filter_map(|line| line.split_once("ortp-message-received "));
        counts.filter_map(|(_, rest)| rest.trim().strip_suffix(" packets")?.trim().parse().ok()).collect()
    }
}

/// The baresip hears the linphonec, and speaks: packets arrive, and they come from the other's own RTP port.
async fn talk(linphone: &Linphone, baresip: &mut Baresip) {
    let before = baresip.media().await;
    let media = baresip
        .media_until("no packets arrive", |media| {
            media.received >= before.received + 25 && media.sent >= before.sent + 25 && media.direction == "sendrecv"
        })
        .await;
    let from = media.from.expect("a sender");
    assert!(from.ip().is_loopback() && from.port() == linphone.rtp, "{media:?} is not straight from {}", linphone.rtp);
}

#[tokio::test]
async fn linphone_and_baresip_call_each_other() {
    let test = "peers::linphone::linphone_and_baresip_call_each_other";
    if !installed(test, &["linphonec", "baresip", "kamailio"]) {
        return;
    }
    let authority = Authority::new();
    let kamailio = Kamailio::start(&authority, 3600).await;
    // linphonec sends datagrams without Content-Length, which Kamailio does not accept on a stream.
    let holdline = Holdline::start(&[&kamailio], Transport::Tcp, &authority, &[]).await;
    let mut l = Linphone::start("l", holdline.sip, Transport::Udp).await;
    let mut b = handset("b", &holdline, Transport::Tcp, &authority).await;

    l.process.say(&format!("call sip:b@{DOMAIN}"));
    b.happened("CALL_INCOMING", 1).await;
    l.said(&format!("Call 1 to sip:b@{DOMAIN} ringing.")).await;
    b.command("accept", "").await;
    b.happened("CALL_ESTABLISHED", 1).await;
    l.said(&format!("Call 1 with sip:b@{DOMAIN} connected.")).await;
    l.play();
    talk(&l, &mut b).await;
    l.process.say("pause");
    b.media_until("is not put on hold", |media| media.direction == "recvonly").await;
    l.said(&format!("Call 1 with sip:b@{DOMAIN} is now paused.")).await;
    l.process.say("resume");
    b.media_until("is not taken off hold", |media| media.direction == "sendrecv").await;
    l.said(&format!("Media streams established with sip:b@{DOMAIN} for call 1")).await;
    l.play();
    talk(&l, &mut b).await;
    l.process.say("terminate");
    assert_eq!(b.happened("CALL_CLOSED", 1).await, "Connection reset by peer");
    l.said(&format!("Call 1 with sip:b@{DOMAIN} ended (No error).")).await;

    b.dial("l").await;
    l.said(&format!("incoming call from sip:b@{DOMAIN}, assigned id 2")).await;
    b.happened("CALL_RINGING", 1).await;
    l.process.say("answer");
    b.happened("CALL_ESTABLISHED", 2).await;
    l.said(&format!("Call 2 with sip:b@{DOMAIN} connected.")).await;
    l.play();
    talk(&l, &mut b).await;
    b.command("hangup", "").await;
    l.said(&format!("Call 2 with sip:b@{DOMAIN} ended (No error).")).await;

    // Before the hold, after it, and in the second call.
    until("packets in three streams, by linphonec's count", async || {
        let heard = l.received().into_iter().filter(|&packets| packets >= 20);
        (heard.count() >= 3).then_some(())
    })
    .await;
    check_quiet(&holdline).await;
}
