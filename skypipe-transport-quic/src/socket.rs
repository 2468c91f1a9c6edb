//! The UDP sockets under QUIC.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use quinn_proto::RandomConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};

/// Asked of the kernel for each direction: a burst of a full window while the process has no turn. It gives as much as
/// `net.core.rmem_max` and `wmem_max` allow, often 208 KiB.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// An endpoint that waits at `address`. At `[::]` it waits for IPv4 too.
pub(crate) fn serving(address: SocketAddr, endpoint: EndpointConfig, server: ServerConfig) -> io::Result<Endpoint> {
    Endpoint::new(endpoint, Some(server), bind(address)?, Arc::new(TokioRuntime))
}

/// An endpoint from which `relay` can be reached. It is bound to no address of this machine, so the kernel picks the one that works
/// after the network changed, and the connection moves with it.
///
/// Fails at once where there is no way to the relay, such as without a network: quinn would send into the void until time runs out.
pub(crate) fn calling(relay: SocketAddr) -> io::Result<Endpoint> {
    let any: IpAddr = if relay.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let any = SocketAddr::new(any, 0);
    // Sends nothing: the kernel looks for a route.
    std::net::UdpSocket::bind(any)?.connect(relay)?;
    let mut endpoint = EndpointConfig::default();
    // One connection to a socket: its address says whose a packet is. A client without connection numbers asks the relay for two of
    // the relay's instead of five, which it would keep in memory; one is in use, the other for the next path.
    endpoint.cid_generator(|| Box::new(RandomConnectionIdGenerator::new(0)));
    Endpoint::new(endpoint, None, bind(any)?, Arc::new(TokioRuntime))
}

pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    // As much as the kernel gives will do.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// An IPv4 address as people write it, also where the socket is IPv6.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
