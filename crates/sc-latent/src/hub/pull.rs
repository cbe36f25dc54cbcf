//! Fetching a hub repository.
//!
//! `hf-hub` knows where a hub is, what its addresses look like and how the cache is laid out that Python's
//! `huggingface_hub` shares. The files are fetched here: what the hub stated of a file before is what must arrive, and what it
//! says later can neither change the name under which the file is kept nor its size.

use std::path::PathBuf;

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Serialize;

use super::{ADATA, CARD, MDATA, METADATA, METRICS, MODEL};
use crate::{Error, Result};
use names::{check_name, is_plain};
use remote::{PATIENCE, Remote};

mod cached;
mod checksum;
mod file;
mod names;
mod remote;

pub use checksum::Checksum;

/// The files that are fetched; nothing else in a repository is looked at.
const ALLOWED: [&str; 6] = [METADATA, CARD, METRICS, MODEL, ADATA, MDATA];

/// Options of [`pull`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PullOptions {
    /// A branch, tag or commit.
    pub revision: String,
    /// The address of the hub; `None` takes `HF_ENDPOINT`, or the public hub.
    pub endpoint: Option<String>,
    /// Where files are kept; `None` takes `HF_HOME`, or the folder that Python's `huggingface_hub` uses.
    pub cache_dir: Option<PathBuf>,
    /// An access token. `None` takes the one that was saved by a login, and only for the public hub.
    pub token: Option<String>,
    /// How often a transfer that breaks is taken up again.
    pub retries: usize,
    /// Whether to fetch the cells too, which are most of it.
    pub with_data: bool,
    /// Use what the cache has, without a network.
    pub offline: bool,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            revision: "main".into(),
            endpoint: None,
            cache_dir: None,
            token: None,
            retries: 5,
            with_data: true,
            offline: false,
        }
    }
}

/// A repository that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pulled {
    /// Its name.
    pub repository: String,
    /// The commit that the revision stood for.
    pub commit: String,
    /// The folder, to be opened with [`HubModel::open`](super::HubModel::open).
    pub dir: PathBuf,
    /// What it holds.
    pub files: Vec<PulledFile>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PulledFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Bytes that came over the network in the last transfer; 0 if it was in the cache.
    pub transferred: u64,
    /// By what it was checked.
    pub checksum: Checksum,
}

/// Fetches a repository `owner/name`: model, metadata, card, metrics and, if asked for, cells; no other files. A transfer
/// that was interrupted goes on where it ended, now or in a later call. Every file is checked against the size and the
/// checksum that the hub states (SHA-256 of large files, git's of small ones), each time; one that does not match is removed,
/// and no more than the size stated is ever written. `progress` is told the file, the bytes it has and its size.
///
/// # Errors
/// [`Error::Hub`] if the repository, the revision or its model is not there, the network fails, or a checksum does not
/// match.
pub fn pull(
    repository: &str,
    options: &PullOptions,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Pulled> {
    check_name(repository, options)?;
    let cache = options.cache();
    let named = options.repo(repository, &options.revision);
    let wanted = |name: &&str| options.with_data || !matches!(*name, ADATA | MDATA);
    if options.offline {
        let names = ALLOWED.into_iter().filter(wanted);
        return cached::all(repository, options, &cache, names);
    }
    let api = options.api()?;
    let info = repository_info(repository, options, &api.repo(named.clone()))?;
    is_plain(&info.sha).map_err(|reason| options.error(repository, None, reason))?;
    let has = |name: &&str| info.siblings.iter().any(|s| s.rfilename == *name);
    if !has(&MODEL) {
        let reason = format!("has no {MODEL}: it is no repository of scvi-hub");
        return Err(options.error(repository, None, reason));
    }
    // By the commit, so that all files are of one version even if the branch moves meanwhile.
    let pinned = options.repo(repository, &info.sha);
    let mut fetch = file::Fetch {
        options,
        repository,
        remote: Remote::new(options.own_token()),
        address: api.repo(pinned.clone()),
        cache: cache.repo(pinned),
        commit: &info.sha,
        progress,
    };
    let names = ALLOWED.into_iter().filter(wanted).filter(has);
    let files = names.map(|n| fetch.file(n)).collect::<Result<Vec<_>>>()?;
    let dir = fetch.folder();
    cache
        .repo(named)
        .create_ref(&info.sha)
        .map_err(|e| options.error(repository, None, format!("cannot note the revision: {e}")))?;
    Ok(Pulled {
        repository: repository.to_owned(),
        dir,
        commit: info.sha,
        files,
    })
}

/// The files of a repository, and the commit that the revision stands for.
fn repository_info(repository: &str, options: &PullOptions, at: &ApiRepo) -> Result<RepoInfo> {
    let request = at.info_request().config();
    let request = request.timeout_global(Some(PATIENCE)).build();
    let info = request
        .call()
        .and_then(|mut answer| answer.body_mut().read_json());
    info.map_err(|e| {
        let reason = match e {
            ureq::Error::StatusCode(401 | 403 | 404) => format!(
                "there is no such repository or revision, or it is private and the token is missing ({e})"
            ),
            _ => format!("{e}; run the same again"),
        };
        options.error(repository, None, reason)
    })
}

impl PullOptions {
    fn cache(&self) -> Cache {
        self.cache_dir
            .clone()
            .map_or_else(Cache::from_env, Cache::new)
    }

    fn repo(&self, repository: &str, revision: &str) -> Repo {
        Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned())
    }

    /// Whether the hub is another than the public one.
    fn is_elsewhere(&self) -> bool {
        self.endpoint.is_some() || std::env::var_os("HF_ENDPOINT").is_some()
    }

    /// The token given, or that of a login.
    fn own_token(&self) -> Option<String> {
        if self.token.is_some() || self.is_elsewhere() {
            return self.token.clone();
        }
        Cache::from_env().token()
    }

    fn api(&self) -> Result<Api> {
        let mut builder = ApiBuilder::from_env().with_token(self.own_token());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        builder.build().map_err(|e| Error::Hub {
            place: "the hub".into(),
            reason: e.to_string(),
        })
    }

    fn error(&self, repository: &str, file: Option<&str>, reason: impl Into<String>) -> Error {
        let at = format!("{repository}@{}", self.revision);
        Error::Hub {
            place: file.map_or(at.clone(), |file| format!("{at}: {file}")),
            reason: reason.into(),
        }
    }
}
