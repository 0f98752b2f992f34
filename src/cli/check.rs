//! `holdline run --check`: everything that can be found out without serving. What `run` refuses is refused, with the same
//! code; what it only warns of is a warning. Whether somebody else has a port or the state directory does not matter: the
//! Holdline that runs with this configuration has them.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use super::Failure;
use super::args::RunArgs;
use super::notes::upstream;
use super::run::cannot_bind_admin;
use super::terminal::print;
use crate::config::{Config, Note, misspelt_variables, writable_directory};
use crate::control;
use crate::flow::{Side, Transport};
use crate::transport::{BindError, tls};

/// Validates, prints a short summary on standard output, and changes nothing.
pub(super) fn check(args: &RunArgs) -> Result<(), Failure> {
    let config = args.config()?;
    tls::check(&config.transport).map_err(|error| Failure::Unavailable(error.into()))?;
    addresses(&config)?;
    let mut notes = config.notes.clone();
    if let Some(path) = &config.state_dir {
        notes.extend(state_dir(path));
    }
    if let Some(socket) = config.control.as_ref().filter(|socket| !socket.default) {
        // The state directory is made before the socket.
        let made = config.state_dir.as_deref().filter(|made| socket.path.parent() == Some(*made));
        control::could_bind(&socket.path, made.is_some()).map_err(|error| Failure::Unavailable(error.into()))?;
    }
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    notes.extend(misspelt_variables(names).into_iter().map(|(name, meant)| Note {
        warning: true,
        text: format!("variable {name} is not a setting; did you mean {meant}?"),
    }));

    let mut lines = vec!["configuration is valid".to_owned(), format!("upstream  {}", upstream(&config))];
    lines.extend(config.transport.listen.iter().map(|on| format!("phones    {} {}", on.transport, on.addr)));
    lines.push(format!("admin     {}", config.admin));
    let word = |warning: bool| if warning { "WARN" } else { "note" };
    lines.extend(notes.iter().map(|note| format!("{}      {}", word(note.warning), note.text)));
    lines.push(String::new());
    print(&lines.join("\n"))
}

/// Addresses that this machine does not have. A port is not asked for.
fn addresses(config: &Config) -> Result<(), Failure> {
    let missing = |addr: SocketAddr| UdpSocket::bind(SocketAddr::new(addr.ip(), 0)).err();
    let refuse = |side: Side, transport: Transport, addr: SocketAddr| match missing(addr) {
        Some(source) => Err(Failure::Unavailable(BindError::Socket { side, transport, addr, source }.into())),
        None => Ok(()),
    };
    for listen in &config.transport.listen {
        refuse(Side::Phone, listen.transport, listen.addr)?;
    }
    refuse(Side::Upstream, config.upstream.transport, config.transport.upstream_bind.addr)?;
    match missing(config.admin) {
        Some(error) => Err(Failure::Unavailable(cannot_bind_admin(config.admin, &error))),
        None => Ok(()),
    }
}

/// Holdline serves handsets without it, too.
fn state_dir(path: &Path) -> Option<Note> {
    let why = writable_directory(path).err()?;
    let text = format!(
        "state_dir {}: {why}; Holdline goes on without, and a restart begins at the first target",
        path.display()
    );
    Some(Note { warning: true, text })
}
