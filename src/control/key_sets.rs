//! Key sets: keeps what issuers publish at their URLs at hand, and passes on what the data plane reports.
//!
//! Compile says which sources are wanted ([`Wanted`]); each has a task that fetches it, and whatever is new comes out as
//! [`News`], to be put into the next snapshot. The last good answer of a source stays while it is away. When a source is
//! asked is `schedule`'s to decide, how it is asked `fetch`'s.

mod fetch;
mod schedule;

use crate::compile::{KeySet, KeySource, ObjectKey, Snapshot};
use crate::feedback::Report;
use fetch::Fetcher;
use schedule::Schedule;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// News that may wait to be read; then fetches do.
const WAITING: usize = 64;

/// How many sources are asked at once.
const AT_ONCE: usize = 16;

/// What a snapshot should say from now on.
#[derive(Clone, Debug)]
pub enum News {
    /// What is known of a source.
    KeySet(Arc<str>, Arc<KeySet>),
    /// What has become of a route's provider.
    Trouble {
        /// The route.
        route: ObjectKey,
        /// The provider's name.
        provider: Arc<str>,
        /// Why it cannot decide; `None` when it can.
        trouble: Option<Arc<str>>,
    },
}

/// What has been learnt so far, beside the objects.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    /// As in [`Snapshot::key_sets`].
    pub key_sets: BTreeMap<Arc<str>, Arc<KeySet>>,
    /// As in [`Snapshot::troubles`].
    pub troubles: BTreeMap<(ObjectKey, Arc<str>), Arc<str>>,
}

impl Learnt {
    /// Takes news in, and says whether a table made with it may be another. That a provider is in trouble is news, why is
    /// not.
    pub fn take(&mut self, news: News) -> bool {
        match news {
            News::KeySet(name, set) => self.key_sets.insert(name, Arc::clone(&set)).is_none_or(|old| old != set),
            News::Trouble { route, provider, trouble } => {
                let key = (route, provider);
                match trouble {
                    Some(_) if self.troubles.contains_key(&key) => false,
                    Some(trouble) => self.troubles.insert(key, trouble).is_none(),
                    None => self.troubles.remove(&key).is_some(),
                }
            }
        }
    }

    /// Forgets what is of no use to `snapshot` or its key `sources` any more.
    pub fn keep(&mut self, snapshot: &Snapshot, sources: &[KeySource]) {
        let wanted = |name: &Arc<str>| sources.binary_search_by(|source| source.name.cmp(name)).is_ok();
        self.key_sets.retain(|name, _| wanted(name));
        self.troubles.retain(|(route, _), _| snapshot.routes.contains_key(route));
    }

    /// Puts what is known into `snapshot`.
    pub fn tell(&self, snapshot: &mut Snapshot) {
        snapshot.key_sets.clone_from(&self.key_sets);
        snapshot.troubles.clone_from(&self.troubles);
    }
}

/// Where it is said which sources are wanted.
#[derive(Debug)]
pub struct Wanted(watch::Sender<Vec<KeySource>>);

impl Wanted {
    /// Wants these from now on, in the order of their names, and no others.
    pub fn want(&self, sources: &[KeySource]) {
        self.0.send_if_modified(|before| {
            let changed = before != sources;
            if changed {
                *before = sources.to_vec();
            }
            changed
        });
    }
}

/// Starts to follow `reports`, and the sources that will be wanted. `allow_local` says whether a source may be on this
/// machine or its own network segment. Ends when [`Wanted`] is dropped.
///
/// # Panics
/// Outside an asynchronous runtime.
pub fn start(reports: mpsc::Receiver<Report>, allow_local: bool) -> (Wanted, mpsc::Receiver<News>) {
    let (wanted, view) = watch::channel(Vec::new());
    let (news, receiver) = mpsc::channel(WAITING);
    let manager = Manager {
        news,
        fetcher: Arc::new(Fetcher::new(allow_local)),
        sources: BTreeMap::new(),
        at_once: Arc::new(Semaphore::new(AT_ONCE)),
    };
    tokio::spawn(manager.run(view, reports));
    (Wanted(wanted), receiver)
}

/// A source that is followed.
struct Followed {
    settings: watch::Sender<KeySource>,
    /// Says that a token names a key that is not among the source's.
    unknown: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Manager {
    news: mpsc::Sender<News>,
    fetcher: Arc<Fetcher>,
    sources: BTreeMap<Arc<str>, Followed>,
    at_once: Arc<Semaphore>,
}

impl Manager {
    async fn run(mut self, mut wanted: watch::Receiver<Vec<KeySource>>, mut reports: mpsc::Receiver<Report>) {
        loop {
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let sources = wanted.borrow_and_update().clone();
                    self.want(sources);
                }
                Some(report) = reports.recv() => self.take(report).await,
            }
        }
    }

    fn want(&mut self, sources: Vec<KeySource>) {
        self.sources.retain(|name, _| sources.binary_search_by(|source| source.name.cmp(name)).is_ok());
        for source in sources {
            if let Some(known) = self.sources.get(&source.name) {
                known.settings.send_if_modified(|settings| {
                    let changed = *settings != source;
                    if changed {
                        settings.clone_from(&source);
                    }
                    changed
                });
                continue;
            }
            let name = Arc::clone(&source.name);
            let (settings, view) = watch::channel(source);
            let (unknown, asked) = mpsc::channel(1);
            let follower = Follower {
                settings: view,
                unknown: asked,
                news: self.news.clone(),
                fetcher: Arc::clone(&self.fetcher),
                at_once: Arc::clone(&self.at_once),
                known: None,
            };
            let task = tokio::spawn(follower.run());
            self.sources.insert(name, Followed { settings, unknown, task });
        }
    }

    async fn take(&self, report: Report) {
        match report {
            // Full means that it is known already.
            Report::UnknownKey { uri } => {
                if let Some(source) = self.sources.get(&uri) {
                    let _ = source.unknown.try_send(());
                }
            }
            Report::Provider { route, provider, trouble } => {
                let route = ObjectKey::new(&*route.namespace, &*route.name);
                let _ = self.news.send(News::Trouble { route, provider, trouble }).await;
            }
        }
    }
}

/// Follows one source.
struct Follower {
    settings: watch::Receiver<KeySource>,
    unknown: mpsc::Receiver<()>,
    news: mpsc::Sender<News>,
    fetcher: Arc<Fetcher>,
    at_once: Arc<Semaphore>,
    known: Option<Arc<KeySet>>,
}

impl Follower {
    async fn run(mut self) {
        let mut schedule = Schedule::new(self.settings.borrow_and_update().cache, Instant::now());
        loop {
            tokio::select! {
                () = sleep_until(schedule.due()) => {
                    schedule.begins(Instant::now());
                    let answered = self.fetch().await;
                    schedule.ended(answered, Instant::now(), fastrand::f64());
                    // Whoever asked meanwhile has had this answer.
                    while self.unknown.try_recv().is_ok() {}
                }
                Some(()) = self.unknown.recv() => schedule.hurry(Instant::now()),
                changed = self.settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    schedule.use_for(self.settings.borrow_and_update().cache, Instant::now());
                }
            }
        }
    }

    /// Asks once, tells what is new, and says whether there was a good answer.
    async fn fetch(&mut self) -> bool {
        let source = self.settings.borrow().clone();
        let Ok(_permit) = self.at_once.acquire().await else { return false };
        let answer = self.fetcher.fetch(&source).await;
        let answered = answer.is_ok();
        let before = self.known.as_deref();
        let now = match answer {
            Ok(body) => KeySet { body: Some(body), trouble: None },
            Err(trouble) => {
                KeySet { body: before.and_then(|known| known.body.clone()), trouble: Some(trouble.to_string().into()) }
            }
        };
        if before != Some(&now) {
            tell(&source.uri, before, &now);
            let now = Arc::new(now);
            self.known = Some(Arc::clone(&now));
            let _ = self.news.send(News::KeySet(Arc::clone(&source.name), now)).await;
        }
        answered
    }
}

/// Logs the beginning and the end of trouble. The query of the URL, if it has one, is nobody's business.
fn tell(uri: &str, before: Option<&KeySet>, now: &KeySet) {
    let uri = uri.split('?').next().unwrap_or_default();
    let troubled = before.and_then(|known| known.trouble.as_deref());
    match (&now.trouble, &now.body) {
        (Some(why), Some(_)) if troubled.is_none() => {
            tracing::warn!(uri, "the issuer's keys cannot be fetched, so the last ones stay in use: {why}");
        }
        (Some(why), None) if troubled.is_none() => {
            tracing::warn!(uri, "the issuer's keys cannot be fetched, so its tokens are refused: {why}");
        }
        (None, _) if troubled.is_some() => tracing::info!(uri, "the issuer's keys can be fetched again"),
        _ => {}
    }
}
