//! What more than one part of the tests needs, once: the core of a simulated world (`simulated`), the binary and its log
//! (`binary`), any program (`process`), what keeps log callsites open (`callsites`), waiting with a bound (`wait`), ports that nobody else takes (`ports`), sockets
//! (`sockets`), a Redis (`redis`), the admin listener (`http`), and what to say where a program is not installed (`installed`).

pub(crate) mod binary;
pub(crate) mod callsites;
pub(crate) mod http;
pub(crate) mod installed;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod simulated;
pub(crate) mod sockets;
pub(crate) mod wait;
