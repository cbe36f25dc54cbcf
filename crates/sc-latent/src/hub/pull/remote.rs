//! Requests for the files of a repository.

use std::time::Duration;

use ureq::http::Response;
use ureq::tls::{TlsConfig, TlsProvider};
use ureq::{Agent, Body};

/// How long a server may be silent.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Redirects within the hub before the one to where a file is kept.
const MAX_HOPS: usize = 10;

/// A hub, asked for files.
pub(super) struct Remote {
    /// Goes where it is sent.
    agent: Agent,
    /// Doesn't: a hub says what a file is in the very answer that sends to where it is kept.
    first: Agent,
    token: Option<String>,
}

/// What a hub states of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stated {
    /// Its checksum.
    pub(super) etag: String,
    pub(super) commit: String,
    pub(super) bytes: u64,
}

/// The contents of a file, from some byte to its end.
pub(super) struct Contents {
    pub(super) from: u64,
    pub(super) body: Body,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: String,
    /// Whether it may be another time.
    pub(super) again: bool,
}

impl Refused {
    fn odd(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            again: false,
        }
    }
}

impl From<ureq::Error> for Refused {
    fn from(e: ureq::Error) -> Self {
        let (reason, again) = match e {
            ureq::Error::StatusCode(401 | 403 | 404) => (
                format!("the hub lists this file and does not give it ({e})"),
                false,
            ),
            // Too slow, too many requests.
            ureq::Error::StatusCode(status @ 400..=499) => {
                (e.to_string(), matches!(status, 408 | 429))
            }
            ureq::Error::BadUri(_) => (e.to_string(), false),
            _ => (
                format!("{e}; run the same again to go on where it ended"),
                true,
            ),
        };
        Self { reason, again }
    }
}

impl Remote {
    pub(super) fn new(token: Option<String>) -> Self {
        let agent = |redirects: u32| -> Agent {
            let tls = TlsConfig::builder().provider(TlsProvider::Rustls).build();
            let config = Agent::config_builder()
                .tls_config(tls)
                .max_redirects(redirects)
                // The token is the hub's, and not of those that keep its files.
                .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
                .timeout_connect(Some(PATIENCE))
                .timeout_recv_response(Some(PATIENCE))
                .timeout_per_read(Some(PATIENCE));
            config.build().into()
        };
        Self {
            agent: agent(10),
            first: agent(0),
            token,
        }
    }

    /// Asks what a file is.
    pub(super) fn stated(&self, address: &str) -> Result<Stated, Refused> {
        let mut address = address.to_owned();
        for _ in 0..MAX_HOPS {
            let answer = self.get(&self.first, &address, "bytes=0-0", true)?;
            let to = match answer.status().is_redirection() {
                true => Some(header(&answer, "location").ok_or_else(|| {
                    Refused::odd("the hub sends to somewhere else, and does not say where")
                })?),
                false => None,
            };
            match to {
                Some(place) if place.starts_with('/') && !place.starts_with("//") => {
                    address = format!("{}{place}", origin(&address));
                }
                to => return self.read_stated(&answer, to),
            }
        }
        Err(Refused::odd("the hub sends from place to place"))
    }

    fn read_stated(&self, answer: &Response<Body>, to: Option<&str>) -> Result<Stated, Refused> {
        let lacks = |what: &str| Refused::odd(format!("the hub does not state the {what}"));
        let etag = header(answer, "x-linked-etag").or_else(|| header(answer, "etag"));
        let etag = etag.ok_or_else(|| lacks("checksum"))?;
        let commit = header(answer, "x-repo-commit").ok_or_else(|| lacks("commit"))?;
        let linked = header(answer, "x-linked-size").and_then(|size| size.parse().ok());
        let bytes = match (linked, to) {
            (Some(bytes), _) => Some(bytes),
            (None, None) => total(answer),
            (None, Some(place)) => total(&self.get(&self.agent, place, "bytes=0-0", false)?),
        };
        Ok(Stated {
            etag: etag.trim_start_matches("W/").replace('"', ""),
            commit: commit.to_owned(),
            bytes: bytes.ok_or_else(|| lacks("size"))?,
        })
    }

    /// The contents from byte `from` on; all of them if the server does not know how to leave some out.
    pub(super) fn contents(&self, address: &str, from: u64) -> Result<Contents, Refused> {
        let answer = self.get(&self.agent, address, &format!("bytes={from}-"), true)?;
        let range = header(&answer, "content-range");
        let began = range.and_then(|r| r.trim().strip_prefix("bytes")?.trim().split('-').next());
        let from = match (answer.status().as_u16(), began) {
            (206, Some(began)) => began.parse().map_err(|_| {
                Refused::odd(format!("the hub sends a part that begins at {began:.40?}"))
            })?,
            (206, None) => from,
            _ => 0,
        };
        Ok(Contents {
            from,
            body: answer.into_body(),
        })
    }

    /// `to_hub` if the token may be sent.
    fn get(
        &self,
        agent: &Agent,
        address: &str,
        range: &str,
        to_hub: bool,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = agent
            .get(address)
            .header("Range", range)
            // Sizes and checksums are of the contents as they are.
            .header("Accept-Encoding", "identity");
        if let Some(token) = self.token.as_ref().filter(|_| to_hub) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call()
    }
}

fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// The size of a whole file, of an answer with its first byte or with all of it.
fn total(answer: &Response<Body>) -> Option<u64> {
    let length = || header(answer, "content-length")?.parse().ok();
    match header(answer, "content-range") {
        Some(range) => range.rsplit('/').next()?.trim().parse().ok(),
        None => length(),
    }
}

/// `https://host:port` of an address.
fn origin(address: &str) -> &str {
    let host = address.find("://").map_or(0, |i| i + 3);
    let end = address
        .get(host..)
        .and_then(|rest| rest.find('/'))
        .map_or(address.len(), |i| host + i);
    address.get(..end).unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for (address, expected) in [
            ("https://a.b/c/d", "https://a.b"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://h/", "http://h"),
        ] {
            assert_eq!(origin(address), expected);
        }
    }
}
