//! The system's name servers. Only the servers: search list, `ndots`, time-outs and rotation of `/etc/resolv.conf` are for
//! programs that ask for half a name.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_resolver::system_conf::parse_resolv_conf;

use super::ask::{MAX_SERVERS, Servers};
use crate::upstream::LookupFailure;

#[derive(Debug)]
pub(super) struct System {
    path: PathBuf,
    port: u16,
    /// As of the last look; connections to servers live here.
    current: Mutex<Option<Arc<Servers>>>,
}

impl System {
    pub(super) fn new(path: &Path, port: u16) -> Self {
        System { path: path.to_owned(), port, current: Mutex::new(None) }
    }

    /// The servers the file lists now. It is read for each question, as it changes with the network; an unreadable one
    /// is an error until it is back, unless servers are known from before.
    pub(super) fn servers(&self) -> Result<Arc<Servers>, LookupFailure> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.listed(), &*current) {
            (Ok(listed), Some(known)) if known.addresses() == listed => Ok(known.clone()),
            (Ok(listed), _) => {
                let servers = Arc::new(Servers::new(&listed)?);
                *current = Some(servers.clone());
                Ok(servers)
            }
            (Err(_), Some(known)) => Ok(known.clone()),
            (Err(why), None) => Err(LookupFailure::Error(format!(
                "no name server known: {}: {why}; list some with --nameserver",
                self.path.display()
            ))),
        }
    }

    fn listed(&self) -> Result<Vec<SocketAddr>, String> {
        let text = std::fs::read(&self.path).map_err(|error| error.to_string())?;
        let (config, _) = parse_resolv_conf(text).map_err(|error| error.to_string())?;
        let mut listed: Vec<SocketAddr> = Vec::new();
        for server in config.name_servers() {
            let address = SocketAddr::new(server.ip, self.port);
            // No more than are asked: a longer list would differ from what is known at every question.
            if listed.len() < MAX_SERVERS && !listed.contains(&address) {
                listed.push(address);
            }
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: Option<&str>) -> (tempfile::TempDir, System) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let system = System::new(&path, 53);
        (dir, system)
    }

    #[test]
    fn more_servers_than_are_asked_are_as_steady_as_few() {
        let text = (1..20).map(|n| format!("nameserver 192.0.2.{n}")).collect::<Vec<_>>().join("\n");
        let (_dir, system) = at(Some(&text));
        let servers = system.servers().unwrap();
        assert_eq!(servers.addresses().len(), MAX_SERVERS);
        assert!(Arc::ptr_eq(&servers, &system.servers().unwrap()));
    }

    #[test]
    fn servers_in_order_and_nothing_else_is_taken_from_the_file() {
        let (_dir, system) =
            at(Some("search a.test b.test\noptions ndots:5 rotate\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n"));
        let servers = system.servers().unwrap();
        assert_eq!(servers.addresses(), ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
        assert!(Arc::ptr_eq(&servers, &system.servers().unwrap()), "connections are kept while the file says the same");
    }

    #[test]
    fn a_missing_or_empty_file_is_an_error_that_names_the_remedy() {
        for text in [None, Some(""), Some("search a.test\n"), Some("\u{0}\u{1}garbage")] {
            let (_dir, system) = at(text);
            let LookupFailure::Error(why) = system.servers().unwrap_err() else { panic!("an error expected") };
            assert!(why.contains("resolv.conf") && why.contains("--nameserver"), "{why}");
        }
    }

    #[test]
    fn the_file_is_followed_when_it_changes_and_the_last_servers_hold_when_it_goes() {
        let (dir, system) = at(Some("nameserver 192.0.2.1\n"));
        system.servers().unwrap();
        std::fs::write(dir.path().join("resolv.conf"), "nameserver 192.0.2.2\n").unwrap();
        assert_eq!(system.servers().unwrap().addresses(), ["192.0.2.2:53".parse().unwrap()]);
        std::fs::remove_file(dir.path().join("resolv.conf")).unwrap();
        assert_eq!(system.servers().unwrap().addresses(), ["192.0.2.2:53".parse().unwrap()]);
    }
}
