//! The socket's file: made so that no other user can ever open it, replaced where it is left over, removed at the end.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use socket2::{Domain, SockAddr, Socket, Type};

/// Bytes of a path that a Unix socket's address has room for.
pub const LONGEST_PATH: usize = 107;

/// Only the user Holdline runs as (and root).
const MODE: u32 = 0o600;

/// Clients the kernel lets wait.
const BACKLOG: i32 = 16;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlBindError {
    /// Somebody answers there.
    #[error("control {}: another Holdline listens there; give each its own --control or --state-dir", .0.display())]
    InUse(PathBuf),
    /// Something else has that name.
    #[error("control {}: there is a file of that name that is not a socket; choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("control {}: {error}; its directory must exist and be writable", path.display())]
    System {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A bound socket, with which the file goes.
#[derive(Debug)]
pub struct Control {
    /// Bound and listened on, for [`serve`](super::serve).
    pub listener: UnixListener,
    /// Hold it for as long as the socket shall be there.
    pub place: Place,
}

/// The file. Removes it when dropped, if it is still the same.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    identity: Identity,
}

/// Device, inode, and when it was made: numbers of inodes are used again at once.
type Identity = (u64, u64, i64, i64);

fn identity(found: &fs::Metadata) -> Identity {
    (found.dev(), found.ino(), found.ctime(), found.ctime_nsec())
}

/// What [`Control::bind`] would find in its way, as far as it can be seen without making anything. A Holdline that listens
/// there already is not in the way of itself. `folder_follows`: the directory will be made before.
///
/// # Errors
/// As [`Control::bind`].
pub fn could_bind(path: &Path, folder_follows: bool) -> Result<(), ControlBindError> {
    let system = |error| ControlBindError::System { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ControlBindError::NotASocket(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system(error)),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => Err(system(io::ErrorKind::NotADirectory.into())),
        Ok(_) => access(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| system(errno.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder_follows => Ok(()),
        Err(error) => Err(system(error)),
    }
}

impl Control {
    /// Binds. A file left over by a process that is gone is replaced.
    pub fn bind(path: &Path) -> Result<Control, ControlBindError> {
        let system = |error| ControlBindError::System { path: path.to_owned(), error };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(ControlBindError::NotASocket(path.to_owned())),
            Ok(_) if is_alive(path).map_err(system)? => return Err(ControlBindError::InUse(path.to_owned())),
            Ok(_) => fs::remove_file(path).map_err(system)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system(error)),
        }
        let listener = listen(path).map_err(system)?;
        let made = fs::symlink_metadata(path).map_err(system)?;
        let place = Place { path: path.to_owned(), identity: identity(&made) };
        Ok(Control { listener, place })
    }
}

/// The mode is set on the socket before it has a name: Linux gives the file the mode of the socket, so that there is no moment
/// at which it is open to others. Elsewhere it is set on the file before any client is served.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let socket = File::from(OwnedFd::from(socket));
    socket.set_permissions(Permissions::from_mode(MODE))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    if fs::symlink_metadata(path)?.mode() & 0o777 != MODE {
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
    }
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Whether a process listens at this file. One whose queue is full does.
fn is_alive(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let same = |found: fs::Metadata| identity(&found) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(same) {
            // An error at the end helps no caller; a file that stays is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}
