//! Ports for servers that cannot say which one they got.

use std::net::{TcpListener, TcpStream};

/// A TCP port on 127.0.0.1 that nobody listens on, and that the kernel gives to no other program for a minute.
///
/// A connection to it is made and closed by the end that accepted it: as long as that end is in TIME_WAIT, the port is no answer
/// to who asks for any, and no connection sets out from it; only who names it, with `SO_REUSEADDR` as servers do, gets it.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let addr = listener.local_addr().expect("a bound socket has an address");
    let asking = TcpStream::connect(addr).expect("a listener takes a connection");
    let (accepted, _) = listener.accept().expect("the connection that was made");
    drop(accepted);
    drop(listener);
    drop(asking);
    addr.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_for_who_names_it_and_not_given_to_others() {
        let port = free_port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens");
        let named = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
        assert_eq!(named.local_addr().unwrap().port(), port);
    }

    #[test]
    fn ports_asked_for_meanwhile_are_others() {
        let mut ports: Vec<u16> = (0..500).map(|_| free_port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 500);
    }
}
