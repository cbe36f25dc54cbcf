//! Pulling a repository from a small server on this machine.
#![cfg(feature = "hub")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hostile;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::Device;
use sc_latent::hub::{Checksum, HubModel, PackOptions, PullOptions, Pulled, pull};
use sc_latent::{Cells, Error, Scvi};
use sha2::Digest;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const REPOSITORY: &str = "lab/lung-atlas";

/// What goes wrong, once each unless said otherwise.
#[derive(Default)]
struct Faults {
    /// Close the connection after so many bytes of `adata.h5ad`.
    cut: Option<usize>,
    /// Send other bytes for `adata.h5ad`, always.
    garble: bool,
    /// Answer requests for part of a file with all of it, as if the server knew no ranges.
    ignore_range: bool,
    /// An entity tag that tries to leave the cache.
    hostile_tag: bool,
    /// The same in every answer about `adata.h5ad` but the first, and in those with its contents; of another commit and size.
    changes_its_mind: bool,
    /// Goes on sending `adata.h5ad` for ever.
    endless: bool,
    /// States another commit than the one asked for.
    other_commit: bool,
    /// States this size of the card.
    card_bytes: Option<u64>,
    /// Sends to nowhere.
    nowhere: bool,
    /// Says what a file is, and sends to another address for its contents.
    elsewhere: bool,
}

struct Server {
    address: String,
    state: Arc<State>,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: Mutex<Faults>,
    /// The path and range of each request.
    log: Mutex<Vec<(String, String)>>,
}

impl Server {
    fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            files,
            faults: Mutex::default(),
            log: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up is no fault of the server.
                let _ = shared.answer(stream);
            }
        });
        Self { address, state }
    }

    fn options(&self, cache: &Path) -> PullOptions {
        let mut options = PullOptions::default();
        options.endpoint = Some(self.address.clone());
        options.cache_dir = Some(cache.to_owned());
        options.retries = 0;
        options
    }

    fn requests(&self, file: &str) -> Vec<String> {
        let log = self.state.log.lock().unwrap();
        let of = log.iter().filter(|(path, _)| path.ends_with(file));
        of.map(|(_, range)| range.clone()).collect()
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        let mut buffer = [0u8; 1024];
        while !request.windows(4).any(|w| w == b"\r\n\r\n") {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..n]);
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        let path = request.split(' ').nth(1).unwrap_or("").to_owned();
        let range = request
            .lines()
            .find_map(|l| l.to_lowercase().strip_prefix("range: ").map(str::to_owned))
            .unwrap_or_default();
        self.log.lock().unwrap().push((path.clone(), range.clone()));
        let reply = Self::reply;
        if let Some(revision) = path.strip_prefix(&format!("/api/models/{REPOSITORY}/revision/")) {
            if revision != "main" && revision != COMMIT {
                return reply(stream, "404 Not Found", "", b"no", 2);
            }
            let names = self
                .files
                .keys()
                .map(|f| format!("{{\"rfilename\": {f:?}}}"));
            let names = names.collect::<Vec<_>>().join(", ");
            let body = format!("{{\"siblings\": [{names}], \"sha\": \"{COMMIT}\"}}");
            return reply(
                stream,
                "200 OK",
                "Content-Type: application/json\r\n",
                body.as_bytes(),
                body.len(),
            );
        }
        let kept = path.strip_prefix("/kept/");
        let name = path.strip_prefix(&format!("/{REPOSITORY}/resolve/{COMMIT}/"));
        let Some(content) = name.or(kept).and_then(|n| self.files.get(n)) else {
            return reply(stream, "404 Not Found", "", b"no", 2);
        };
        let mut faults = self.faults.lock().unwrap();
        if faults.nowhere {
            return reply(stream, "302 Found", "", b"", 0);
        }
        let large = path.ends_with("adata.h5ad");
        let asked = self.log.lock().unwrap();
        let later = asked.iter().filter(|(p, _)| *p == path).count() > 1;
        drop(asked);
        let tag = match large {
            _ if faults.hostile_tag => "../../../outside".to_owned(),
            true if faults.changes_its_mind && later => "../../../outside".to_owned(),
            // As the real hub: SHA-256 for large files, git's checksum for small ones.
            true => hex(sha2::Sha256::digest(content)),
            false => hex(sha1::Sha1::digest(
                [format!("blob {}\0", content.len()).as_bytes(), content].concat(),
            )),
        };
        let mut content = content.clone();
        if large && faults.garble {
            content[7] ^= 1;
        }
        let total = content.len();
        let (from, to) = range
            .trim_start_matches("bytes=")
            .split_once('-')
            .unwrap_or(("0", ""));
        let from: usize = from.parse().unwrap_or(0);
        let to = to.parse::<usize>().map_or(total, |t| (t + 1).min(total));
        let asked_for_tag = to == 1;
        let (from, to) = if faults.ignore_range && !asked_for_tag {
            (0, total)
        } else {
            (from, to)
        };
        if from >= total {
            return reply(stream, "416 Range Not Satisfiable", "", b"", 0);
        }
        let body = &content[from..to];
        let lies = large && later && faults.changes_its_mind;
        let commit = if faults.other_commit || lies {
            COMMIT.replace('0', "f")
        } else {
            COMMIT.to_owned()
        };
        let stated = match faults.card_bytes {
            Some(bytes) if path.ends_with("README.md") => bytes,
            _ if lies => 1 << 50,
            _ => total as u64,
        };
        let headers = format!(
            "ETag: \"{tag}\"\r\nX-Repo-Commit: {commit}\r\nContent-Range: bytes {from}-{}/{stated}\r\n",
            to - 1
        );
        if let Some(name) = name.filter(|_| faults.elsewhere && large) {
            let headers = format!(
                "X-Linked-ETag: \"{tag}\"\r\nX-Linked-Size: {stated}\r\nX-Repo-Commit: {commit}\r\nETag: \"no\"\r\n\
                 Location: http://{}/kept/{name}\r\n",
                stream.local_addr()?
            );
            return reply(stream, "302 Found", &headers, b"", 0);
        }
        if large && faults.endless && !asked_for_tag {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\n{headers}\r\n"
            )?;
            loop {
                // Until the client has had enough.
                stream.write_all(&content)?;
            }
        }
        let sent = match faults.cut {
            Some(cut) if large && !asked_for_tag => {
                faults.cut = None;
                &body[..cut.min(body.len())]
            }
            _ => body,
        };
        reply(stream, "206 Partial Content", &headers, sent, body.len())
    }

    fn reply(
        mut stream: TcpStream,
        status: &str,
        headers: &str,
        body: &[u8],
        length: usize,
    ) -> std::io::Result<()> {
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
        )?;
        stream.write_all(body)?;
        stream.flush()
    }
}

/// A packed model and some cells.
fn files() -> BTreeMap<String, Vec<u8>> {
    let counts = ndarray::Array2::from_shape_fn((8, 5), |(i, g)| ((i * 2 + g) % 4) as f32);
    let model = Scvi::params(&Cells::plain(&counts)).check().unwrap();
    let model = model.init(&Device::Cpu, 0).unwrap();
    let dir = tempfile::tempdir().unwrap();
    HubModel::pack(dir.path(), &model, &PackOptions::default()).unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    let cells = (0..200_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes());
    files.insert("adata.h5ad".into(), cells.collect());
    files.insert("../../evil".into(), b"no".to_vec());
    files.insert("train.py".into(), b"no".to_vec());
    files
}

fn run(options: &PullOptions) -> Result<Pulled, Error> {
    pull(REPOSITORY, options, &mut |_, _, _| {})
}

fn transferred(pulled: &Pulled, name: &str) -> (u64, Checksum) {
    let file = pulled.files.iter().find(|f| f.name == name).unwrap();
    (file.transferred, file.checksum)
}

#[test]
fn a_repository_arrives_and_stays() {
    let (server, cache) = (Server::new(files()), tempfile::tempdir().unwrap());
    let options = server.options(cache.path());
    let mut told = 0;
    let pulled = pull(REPOSITORY, &options, &mut |name, done, total| {
        if name == "adata.h5ad" {
            assert!(done <= total && total == 800_000);
            told = done;
        }
    })
    .unwrap();
    assert_eq!((pulled.commit.as_str(), told), (COMMIT, 800_000));
    let names: Vec<&str> = pulled.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "_scvi_required_metadata.json",
            "README.md",
            "model.pt",
            "adata.h5ad"
        ]
    );
    assert_eq!(
        transferred(&pulled, "adata.h5ad"),
        (800_000, Checksum::Sha256)
    );
    assert_eq!(transferred(&pulled, "model.pt").1, Checksum::Git);
    let hub = HubModel::open(&pulled.dir).unwrap();
    assert_eq!(hub.model(&Device::Cpu).unwrap().registry().n_genes(), 5);
    assert_eq!(
        std::fs::read(hub.adata_path().unwrap()).unwrap(),
        files()["adata.h5ad"]
    );

    // Again: nothing is transferred, also without a network.
    let before = server.requests("adata.h5ad").len();
    let again = run(&options).unwrap();
    assert_eq!(transferred(&again, "adata.h5ad").0, 0);
    assert_eq!(server.requests("adata.h5ad").len(), before);
    let mut offline = options.clone();
    offline.offline = true;
    offline.endpoint = Some("http://127.0.0.1:1".into());
    let cached = run(&offline).unwrap();
    assert_eq!((cached.dir, cached.commit), (again.dir, again.commit));
    offline.revision = "v2".into();
    assert!(
        run(&offline)
            .unwrap_err()
            .to_string()
            .contains("not in the cache")
    );
}

#[test]
fn without_the_cells() {
    let (server, cache) = (Server::new(files()), tempfile::tempdir().unwrap());
    let mut options = server.options(cache.path());
    options.with_data = false;
    let pulled = run(&options).unwrap();
    assert!(pulled.files.iter().all(|f| f.name != "adata.h5ad"));
    assert!(server.requests("adata.h5ad").is_empty());
}

#[test]
fn an_interrupted_transfer_goes_on_where_it_ended() {
    let (server, cache) = (Server::new(files()), tempfile::tempdir().unwrap());
    let options = server.options(cache.path());
    server.state.faults.lock().unwrap().cut = Some(300_000);
    let message = run(&options).unwrap_err().to_string();
    assert!(message.contains("adata.h5ad"), "{message}");
    let pulled = run(&options).unwrap();
    let (bytes, checksum) = transferred(&pulled, "adata.h5ad");
    assert!(bytes <= 500_000 && bytes > 0, "{bytes} bytes again");
    assert_eq!(checksum, Checksum::Sha256);
    let last = server.requests("adata.h5ad").pop().unwrap();
    assert_eq!(last, format!("bytes={}-", 800_000 - bytes));
    // By itself, if it may try again.
    let cache = tempfile::tempdir().unwrap();
    let mut options = server.options(cache.path());
    options.retries = 2;
    server.state.faults.lock().unwrap().cut = Some(100_000);
    assert!(transferred(&run(&options).unwrap(), "adata.h5ad").0 <= 700_000);
}

#[test]
fn a_server_without_ranges_is_survived() {
    let (server, cache) = (Server::new(files()), tempfile::tempdir().unwrap());
    let mut options = server.options(cache.path());
    server.state.faults.lock().unwrap().cut = Some(300_000);
    assert!(run(&options).is_err());
    server.state.faults.lock().unwrap().ignore_range = true;
    options.retries = 1;
    let pulled = run(&options).unwrap();
    assert_eq!(
        transferred(&pulled, "adata.h5ad"),
        (800_000, Checksum::Sha256)
    );
}

#[test]
fn a_wrong_checksum_is_refused() {
    let (server, cache) = (Server::new(files()), tempfile::tempdir().unwrap());
    let options = server.options(cache.path());
    server.state.faults.lock().unwrap().garble = true;
    let message = run(&options).unwrap_err().to_string();
    assert!(
        message.contains("checksum") && message.contains("adata.h5ad"),
        "{message}"
    );
    // It is not left in the cache.
    server.state.faults.lock().unwrap().garble = false;
    let pulled = run(&options).unwrap();
    assert_eq!(transferred(&pulled, "adata.h5ad").0, 800_000);
    // A file that rots in the cache is fetched again.
    let path = pulled.dir.join("adata.h5ad");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(std::fs::canonicalize(&path).unwrap(), bytes).unwrap();
    assert_eq!(
        transferred(&run(&options).unwrap(), "adata.h5ad").0,
        800_000
    );
}

#[test]
fn what_is_not_there_is_named() {
    let mut only = files();
    only.remove("model.pt");
    let (server, cache) = (Server::new(only), tempfile::tempdir().unwrap());
    let mut options = server.options(cache.path());
    let message = run(&options).unwrap_err().to_string();
    assert!(
        message.contains("model.pt") && message.contains(REPOSITORY),
        "{message}"
    );
    options.revision = "v9".into();
    let message = run(&options).unwrap_err().to_string();
    assert!(
        message.contains("@v9") && message.contains("revision"),
        "{message}"
    );
    let message = pull("nobody/nothing", &options, &mut |_, _, _| {})
        .unwrap_err()
        .to_string();
    assert!(message.contains("no such repository"), "{message}");
    for name in ["../etc", "a/b/c", "", "a b", "/x"] {
        let message = pull(name, &options, &mut |_, _, _| {})
            .unwrap_err()
            .to_string();
        assert!(message.contains("owner/name"), "{message}");
    }
    options.revision = "../../x".into();
    assert!(run(&options).unwrap_err().to_string().contains("revision"));
}
