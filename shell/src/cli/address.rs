//! Addresses as people write them: `HOST:PORT`, `[::1]:9092`, or a host alone where a port is implied.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

/// A host, by name or number, and a TCP port. Names are resolved where the address is used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    /// A name or an IP address, an IPv6 address without brackets.
    pub host: String,
    /// 0 stands for any free port where the address is bound.
    pub port: u16,
}

/// A host, and a port where one was given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct HostAndMaybePort {
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// A text that is no address, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnAddress(String);

impl fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAnAddress {}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Address, NotAnAddress> {
        let HostAndMaybePort { host, port } = text.parse()?;
        let port = port.ok_or_else(|| NotAnAddress(format!("`{text}` has no port: write HOST:PORT")))?;
        Ok(Address { host, port })
    }
}

impl FromStr for HostAndMaybePort {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<HostAndMaybePort, NotAnAddress> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) =
                rest.split_once(']').ok_or_else(|| NotAnAddress(format!("`{text}` lacks the closing bracket")))?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(NotAnAddress(format!("`{host}` between brackets is no IPv6 address")));
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(NotAnAddress(format!("`{text}` goes on after its bracket: write [HOST]:PORT"))),
            }
        } else if text.matches(':').count() > 1 {
            // Without brackets the last group of an IPv6 address could be read as a port.
            if text.parse::<Ipv6Addr>().is_err() {
                return Err(NotAnAddress(format!("`{text}` is no address: write HOST:PORT, or [IPV6]:PORT")));
            }
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        check_host(host)?;
        let port = match port {
            Some(port) => Some(
                port.parse()
                    .map_err(|_| NotAnAddress(format!("`{port}` is no port: give a number from 0 to 65535")))?,
            ),
            None => None,
        };
        Ok(HostAndMaybePort { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for Address {
    type Error = NotAnAddress;
    fn try_from(text: String) -> Result<Address, NotAnAddress> {
        text.parse()
    }
}

impl TryFrom<String> for HostAndMaybePort {
    type Error = NotAnAddress;
    fn try_from(text: String) -> Result<HostAndMaybePort, NotAnAddress> {
        text.parse()
    }
}

/// Refuses what can be neither a name nor an IP address, so that the mistake is named here and not by a resolver.
pub(super) fn check_host(host: &str) -> Result<(), NotAnAddress> {
    if host.is_empty() {
        return Err(NotAnAddress("the host is empty".to_owned()));
    }
    let is_ip = host.parse::<IpAddr>().is_ok();
    let is_name = host.len() <= 253 && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    if is_ip || is_name {
        Ok(())
    } else {
        Err(NotAnAddress(format!("`{host}` is neither a host name nor an IP address")))
    }
}

/// Whether binding to `host` accepts connections from any network.
pub(super) fn is_wide(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// Whether a client that connects to `localhost` reaches a listener bound to `host`.
pub(super) fn localhost_reaches(host: &str) -> bool {
    is_wide(host) || matches!(host, "localhost" | "127.0.0.1" | "::1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let seen = match text.parse::<Address>() {
            Ok(address) => format!("{} port {} as {address}", address.host, address.port),
            Err(why) => why.to_string(),
        };
        assert_eq!(seen, expect, "for {text:?}");
    }

    #[test]
    fn an_address_is_read_and_written_alike() {
        check("0.0.0.0:9092", "0.0.0.0 port 9092 as 0.0.0.0:9092");
        check("broker-1.example.org:0", "broker-1.example.org port 0 as broker-1.example.org:0");
        check("[::1]:9092", "::1 port 9092 as [::1]:9092");
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        check("localhost", "`localhost` has no port: write HOST:PORT");
        check("::1", "`::1` has no port: write HOST:PORT");
        check("localhost:port", "`port` is no port: give a number from 0 to 65535");
        check("localhost:70000", "`70000` is no port: give a number from 0 to 65535");
        check(":9092", "the host is empty");
        check("[::1:9092", "`[::1:9092` lacks the closing bracket");
        check("[::1]9092", "`[::1]9092` goes on after its bracket: write [HOST]:PORT");
        check("[host]:1", "`host` between brackets is no IPv6 address");
        check("a:b:c", "`a:b:c` is no address: write HOST:PORT, or [IPV6]:PORT");
        check("kafka://host:1", "`kafka://host:1` is no address: write HOST:PORT, or [IPV6]:PORT");
        check("a b:1", "`a b` is neither a host name nor an IP address");
    }

    #[test]
    fn an_ipv6_address_alone_is_a_host_without_a_port() {
        let parsed: HostAndMaybePort = "fe80::1".parse().expect("an IPv6 address");
        assert_eq!(parsed, HostAndMaybePort { host: "fe80::1".to_owned(), port: None });
    }
}
