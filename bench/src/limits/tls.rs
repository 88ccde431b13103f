//! TLS over TCP: the reference an encrypted transport is judged by. One connection, one request at a time, blocking sockets.

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConfig, ServerConnection, Stream};
use shoal_runtime::{clock, task};

use crate::buffer::Aligned;
use crate::limits::BLOCK;
use crate::limits::pki::{NAME, Pki};
use crate::sample::{Effort, Meter, Sample};

/// Bytes read from the socket at once; rustls alone would ask for 4 KiB.
const SOCKET_BYTES: usize = 256 << 10;

/// A connection whose other end, a thread of this process, answers a length with as many bytes.
pub struct Tls {
    connection: ClientConnection,
    socket: Socket,
    target: Aligned,
}

struct Socket {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Tls {
    /// Connects over loopback.
    pub fn start(pki: &Pki) -> anyhow::Result<Tls> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no loopback listener")?;
        let addr = listener.local_addr()?;
        let server = Arc::clone(&pki.server);
        task::thread("limit-tls", move || {
            // The client hanging up ends the thread.
            let _ = serve(&listener, server);
        });
        let connection = ClientConnection::new(Arc::clone(&pki.client), ServerName::try_from(NAME)?)?;
        let socket = Socket::new(TcpStream::connect(addr)?)?;
        Ok(Tls { connection, socket, target: Aligned::zeroed(BLOCK) })
    }

    /// Requests of `size` bytes, at most a block, one after the other.
    pub fn get(&mut self, effort: &Effort, size: usize) -> anyhow::Result<Sample> {
        let mut stream = Stream::new(&mut self.connection, &mut self.socket);
        let target = &mut self.target[..size];
        let mut meter = Meter::start(effort);
        while meter.goes_on(0) {
            let began = clock::now();
            stream.write_all(&(size as u32).to_le_bytes())?;
            stream.read_exact(target)?;
            meter.done(began, size as u64);
        }
        Ok(meter.finish())
    }
}

fn serve(listener: &TcpListener, config: Arc<ServerConfig>) -> anyhow::Result<()> {
    let (socket, _) = listener.accept()?;
    let mut socket = Socket::new(socket)?;
    let mut connection = ServerConnection::new(config)?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    let body = Aligned::seeded(4, BLOCK);
    let mut request = [0; 4];
    loop {
        stream.read_exact(&mut request)?;
        let size = u32::from_le_bytes(request) as usize;
        stream.write_all(&body[..size.min(BLOCK)])?;
    }
}

impl Socket {
    fn new(stream: TcpStream) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        Ok(Socket { reader: BufReader::with_capacity(SOCKET_BYTES, stream.try_clone()?), writer: stream })
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.writer.write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
