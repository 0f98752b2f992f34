//! How the operator's commands find a running Holdline: its admin address, its control socket.

use std::ffi::{OsStr, OsString};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use clap::builder::OsStringValueParser;
use serde_json::Value;

use super::Failure;
use crate::config::keys::find;
use crate::config::{Layers, Origin, WHEREABOUTS, admin_address, admin_token, control_path};
use crate::control::{self, Answer, AskError, Command, CommandRefusal, DEFAULT_NAME};

/// The state directory of README's example, which is looked at where nothing else is given.
const USUAL: &str = "/var/lib/holdline";

/// For a connection, and for each part of an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// No page is longer than this.
const LONGEST: u64 = 16 << 20;

/// The file that `holdline run` was given.
#[derive(Debug, Clone, Args)]
pub(super) struct FileArgs {
    /// The configuration file of the running Holdline, to find it by.
    #[arg(short, long, env = "HOLDLINE_CONFIG", hide_env_values = true, value_name = "FILE")]
    #[arg(value_parser = OsStringValueParser::new())]
    config: Option<OsString>,
}

/// Where the admin address is.
#[derive(Debug, Clone, Args)]
pub(super) struct AdminArgs {
    /// The admin address of the running Holdline [default: that of --config, else http://127.0.0.1:9460].
    #[arg(long, env = "HOLDLINE_ADMIN", hide_env_values = true, value_name = "URL")]
    admin: Option<String>,
}

/// What the admin address asks for.
#[derive(Debug, Clone, Args)]
pub(super) struct TokenArgs {
    /// The file with the token of the running Holdline's admin address [default: that of --config].
    #[arg(long, env = "HOLDLINE_ADMIN_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    #[arg(value_parser = OsStringValueParser::new())]
    admin_token_file: Option<OsString>,
}

/// Where the control socket is.
#[derive(Debug, Clone, Args)]
pub(super) struct ControlArgs {
    /// The control socket of the running Holdline [default: that of --config, else control.sock in --state-dir, else
    /// /var/lib/holdline/control.sock].
    #[arg(long, env = "HOLDLINE_CONTROL", hide_env_values = true, value_name = "SOCKET-PATH")]
    #[arg(value_parser = OsStringValueParser::new())]
    control: Option<OsString>,
    /// The state directory of the running Holdline, in which its control socket is.
    #[arg(long, env = "HOLDLINE_STATE_DIR", hide_env_values = true, value_name = "DIR")]
    #[arg(value_parser = OsStringValueParser::new())]
    state_dir: Option<OsString>,
}

/// A question over the control socket, and in which form its answer is printed.
#[derive(Debug, Clone, Args)]
pub(super) struct QuestionArgs {
    /// Answer with JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    control: ControlArgs,
    #[command(flatten)]
    file: FileArgs,
}

impl QuestionArgs {
    /// The running Holdline's answer.
    pub(super) fn ask(&self, command: &Command) -> Result<Value, Failure> {
        ask(&self.control.path(&self.file)?, command)
    }
}

impl FileArgs {
    /// As if this file had been given.
    pub(super) fn of(path: PathBuf) -> FileArgs {
        FileArgs { config: Some(path.into_os_string()) }
    }

    /// What is wrong in the file, wherever in it.
    pub(super) fn mistake(&self) -> Option<String> {
        let path = Path::new(self.config.as_ref()?);
        Layers::default().read_file(path, Origin::Flag("config")).err().map(|error| error.to_string())
    }

    /// Adds what the file says about where its Holdline is, and nothing else: a mistake elsewhere in it, which the running
    /// Holdline has refused, is no reason not to find that one. Without a file: nothing.
    fn add_to(&self, layers: &mut Layers) -> Result<(), Failure> {
        match &self.config {
            Some(path) if !is_blank(path) => {
                Ok(layers.read_only(&WHEREABOUTS, Path::new(path), Origin::Flag("config"))?)
            }
            _ => Ok(()),
        }
    }
}

impl ControlArgs {
    /// The socket, by the rules of `holdline run`: a path given in whichever way wins over a state directory.
    pub(super) fn path(&self, file: &FileArgs) -> Result<PathBuf, Failure> {
        let mut layers = Layers::default();
        for (name, given) in [("control", &self.control), ("state_dir", &self.state_dir)] {
            // An empty variable says nothing, as with `holdline run`.
            if let (Some(key), Some(path)) = (find(name), given.as_deref().filter(|path| !is_blank(path))) {
                layers.add(key, vec![Path::new(path).display().to_string()], &Origin::Flag(key.flag));
            }
        }
        file.add_to(&mut layers)?;
        Ok(control_path(&layers)?.unwrap_or_else(|| Path::new(USUAL).join(DEFAULT_NAME)))
    }

    /// Whether the caller wants the socket and nothing else.
    pub(super) fn is_given(&self) -> bool {
        self.control.as_deref().is_some_and(|path| !is_blank(path))
    }
}

fn is_blank(path: &OsStr) -> bool {
    path.to_str().is_some_and(|text| text.trim().is_empty())
}

/// Asks over the control socket. A refusal is reported to the operator as it is.
pub(super) fn ask(path: &Path, command: &Command) -> Result<Value, Failure> {
    match control::ask(path, command) {
        Ok(answer) => granted(answer),
        Err(error) => Err(unreachable(&error)),
    }
}

/// Asks for an answer that goes on, and gives what follows its first line.
pub(super) fn open(path: &Path, command: &Command) -> Result<BufReader<UnixStream>, Failure> {
    match control::open(path, command) {
        Ok((answer, reader)) => granted(answer).map(|_| reader),
        Err(error) => Err(unreachable(&error)),
    }
}

fn granted(answer: Answer) -> Result<Value, Failure> {
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Error { kind: CommandRefusal::NoSuchTarget | CommandRefusal::BadRequest, message } => {
            Err(Failure::Usage(super::terminal::visible(&message)))
        }
        Answer::Error {
            kind: CommandRefusal::NotReady | CommandRefusal::AlreadyActive | CommandRefusal::NotApart,
            message,
        } => Err(Failure::Other(anyhow!(super::terminal::visible(&message)))),
        Answer::Error { kind: CommandRefusal::Silent | CommandRefusal::Busy, message } => {
            Err(Failure::Unavailable(anyhow!(message)))
        }
    }
}

fn unreachable(error: &AskError) -> Failure {
    let hint = "give its --control, --state-dir or --config; holdline run has a control socket where it has a \
                state_dir or control";
    Failure::Unavailable(anyhow!("{error}; {hint}"))
}

/// `HOST:PORT` of the Holdline that runs with this file.
pub(super) fn admin_of(file: &FileArgs) -> Result<String, Failure> {
    let mut layers = Layers::default();
    file.add_to(&mut layers)?;
    Ok(on_loopback(admin_address(&layers)?).to_string())
}

impl AdminArgs {
    /// `HOST:PORT` to connect to. What Holdline binds to may be a wildcard; it is asked on loopback then.
    pub(super) fn address(&self, file: &FileArgs) -> Result<String, Failure> {
        let Some(given) = self.admin.as_deref().filter(|given| !given.trim().is_empty()) else {
            return admin_of(file);
        };
        let text = given.trim();
        let usage = |what: &str| Failure::Usage(format!("--admin {text}: {what}; write http://127.0.0.1:9460"));
        if text.starts_with("https://") {
            return Err(usage("the admin address speaks plain HTTP"));
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        if let Ok(address) = authority.parse::<SocketAddr>() {
            return Ok(on_loopback(address).to_string());
        }
        let name = |host: &str| !host.is_empty() && !host.contains(['/', '@', ' ', '?', '#']);
        match authority.rsplit_once(':') {
            Some((host, port)) if name(host) && port.parse::<u16>().is_ok() => Ok(authority.to_owned()),
            _ => Err(usage("not an address with a port")),
        }
    }
}

impl TokenArgs {
    /// The token, if there is a file that holds one.
    pub(super) fn token(&self, file: &FileArgs) -> Result<Option<String>, Failure> {
        let mut layers = Layers::default();
        if let (Some(key), Some(path)) =
            (find("admin_token_file"), self.admin_token_file.as_deref().filter(|path| !is_blank(path)))
        {
            layers.add(key, vec![Path::new(path).display().to_string()], &Origin::Flag(key.flag));
        }
        file.add_to(&mut layers)?;
        Ok(admin_token(&layers)?)
    }
}

/// The token of the Holdline that this file configures, if it asks for one.
pub(super) fn token_of(file: &FileArgs) -> Result<Option<String>, Failure> {
    TokenArgs { admin_token_file: None }.token(file)
}

fn on_loopback(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// A page of the admin address: status and body.
pub(super) fn get(address: &str, path: &str, token: Option<&str>) -> Result<(u16, String), Failure> {
    let fetched = fetch(address, path, token);
    fetched.with_context(|| format!("no answer from http://{address}{path}")).map_err(Failure::Unavailable)
}

fn fetch(address: &str, path: &str, token: Option<&str>) -> anyhow::Result<(u16, String)> {
    let mut last = anyhow!("the name has no address");
    for addr in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, PATIENCE) {
            Ok(stream) => return converse(stream, address, path, token),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn converse(mut stream: TcpStream, address: &str, path: &str, token: Option<&str>) -> anyhow::Result<(u16, String)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let shown = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{shown}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => anyhow!("nothing came for {PATIENCE:?}"),
        _ => error.into(),
    })?;
    let answer = String::from_utf8(answer).context("not text")?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("that is no HTTP answer") };
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let status = status.context("that is no HTTP answer")?;
    if head.to_ascii_lowercase().contains("\r\ntransfer-encoding:") {
        bail!("that is no Holdline: it sends its pages in chunks");
    }
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_address_is_a_url_or_what_run_was_given() {
        let file = FileArgs { config: None };
        let address = |text: &str| AdminArgs { admin: Some(text.to_owned()) }.address(&file).ok();
        for (text, found) in [
            ("http://127.0.0.1:9460", Some("127.0.0.1:9460")),
            ("http://holdline.example:9460/", Some("holdline.example:9460")),
            ("0.0.0.0:9000", Some("127.0.0.1:9000")),
            ("[::]:9000", Some("[::1]:9000")),
            ("https://127.0.0.1:9460", None),
            ("127.0.0.1", None),
            ("http://a/b:1", None),
        ] {
            assert_eq!(address(text).as_deref(), found, "{text}");
        }
        assert_eq!(AdminArgs { admin: None }.address(&file).ok().as_deref(), Some("127.0.0.1:9460"));
    }

    #[test]
    fn the_control_socket_is_where_run_would_put_it() {
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join("holdline.toml");
        std::fs::write(&written, "srv = \"_sip._udp.pbx.example\"\nstate_dir = \"/from/file\"\n").unwrap();
        let path = |control: Option<&str>, state_dir: Option<&str>, config: Option<&Path>| {
            let args = ControlArgs { control: control.map(OsString::from), state_dir: state_dir.map(OsString::from) };
            args.path(&FileArgs { config: config.map(|path| path.as_os_str().to_owned()) })
                .unwrap()
                .display()
                .to_string()
        };
        assert_eq!(path(None, None, None), "/var/lib/holdline/control.sock");
        assert_eq!(path(None, None, Some(&written)), "/from/file/control.sock");
        assert_eq!(path(None, Some("/s"), Some(&written)), "/s/control.sock");
        assert_eq!(path(Some("/c"), Some("/s"), Some(&written)), "/c");
        std::fs::write(&written, "control = \"/from/file.sock\"\n").unwrap();
        assert_eq!(path(None, Some("/s"), Some(&written)), "/from/file.sock");
    }
}
