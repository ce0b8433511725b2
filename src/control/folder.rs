//! A folder of YAML as the source of objects: what is in it, and that it has changed.
//!
//! Reads every `*.yaml` and `*.yml` below the folder in sorted order, follows links as mounted `ConfigMap`s need, and
//! leaves out names that begin with a dot (which is also where such a mount keeps its second copy). What a document
//! means is `document`'s business.

use super::document::{Document, Object, ObjectName, Problem, read_documents};
use notify::{RecursiveMode, Watcher};
use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The most files that are read.
const MAX_FILES: usize = 10_000;

/// The most folders within folders.
const MAX_DEPTH: usize = 8;

/// Longer than the clock that stamps a file's changes stands still.
const TICK: Duration = Duration::from_millis(200);

/// How often the folder is read anyway, so that a change the kernel did not tell of heals.
const RESCAN: Duration = Duration::from_secs(10);

/// What a folder holds.
#[derive(Debug, Default)]
pub struct FolderContents {
    /// Objects, in order of file and line; of several of one name the first.
    pub documents: Vec<Document>,
    /// What could not be used, and notes.
    pub problems: Vec<Problem>,
}

impl FolderContents {
    /// Whether something is wrong, notes aside.
    pub fn is_broken(&self) -> bool {
        self.problems.iter().any(|problem| !problem.note)
    }
}

/// Reads a folder, or one file.
///
/// # Errors
/// When `path` itself cannot be read; anything below it is a [`Problem`].
pub fn read(path: &Path) -> std::io::Result<FolderContents> {
    Files::default().read(path)
}

/// What the files of a folder held when they were last read, so that those that have not changed are not read again.
/// A file with a Secret in it is not remembered.
#[derive(Debug, Default)]
pub struct Files(HashMap<PathBuf, Remembered>);

#[derive(Debug)]
struct Remembered {
    stamp: Stamp,
    documents: Vec<Document>,
    problems: Vec<Problem>,
}

/// What tells one content of a file from another: device, number, size, and the times of its last changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp([i64; 7]);

impl Stamp {
    /// `None` for a file that was changed a moment ago: it may change again within the same tick of its clock.
    fn of(about: &Metadata) -> Option<Self> {
        let changed = Duration::new(about.ctime().try_into().ok()?, about.ctime_nsec().try_into().ok()?);
        let age = SystemTime::now().duration_since(UNIX_EPOCH + changed).ok()?;
        let number = |number: u64| number.cast_signed();
        (age > TICK).then_some(Self([
            number(about.dev()),
            number(about.ino()),
            number(about.size()),
            about.mtime(),
            about.mtime_nsec(),
            about.ctime(),
            about.ctime_nsec(),
        ]))
    }
}

impl Files {
    /// Reads a folder, or one file.
    ///
    /// # Errors
    /// When `path` itself cannot be read; anything below it is a [`Problem`].
    pub fn read(&mut self, path: &Path) -> std::io::Result<FolderContents> {
        let mut files = Vec::new();
        if path.is_file() {
            files.push(path.to_owned());
        } else {
            list(path, &mut Vec::new(), &mut files)?;
        }
        let mut contents = FolderContents::default();
        if files.len() > MAX_FILES {
            let last = files[MAX_FILES - 1].display();
            let message = format!("holds more than {MAX_FILES} files; those after {last} are left out");
            contents.problems.push(whole(path, message));
            files.truncate(MAX_FILES);
        }
        let mut before = std::mem::take(&mut self.0);
        for file in files {
            let name = file.strip_prefix(path).ok().filter(|name| !name.as_os_str().is_empty()).unwrap_or(&file);
            let stamp = std::fs::metadata(&file).ok().and_then(|about| Stamp::of(&about));
            let remembered = before.remove(&file).filter(|known| Some(known.stamp) == stamp);
            let (documents, problems) = match remembered {
                Some(known) => (known.documents, known.problems),
                None => match text(&file) {
                    Ok(text) => read_documents(&name.to_string_lossy(), &text),
                    Err(message) => (Vec::new(), vec![whole(name, message)]),
                },
            };
            contents.documents.extend(documents.iter().cloned());
            contents.problems.extend(problems.iter().cloned());
            let secret = documents.iter().any(|document| matches!(document.object, Object::Secret(_)));
            if let Some(stamp) = stamp.filter(|_| !secret) {
                self.0.insert(file, Remembered { stamp, documents, problems });
            }
        }
        refuse_duplicates(&mut contents);
        Ok(contents)
    }
}

/// Adds the files below `folder`. `above` holds the true names of the folders that lead to it, so that a link back
/// to one of them is not followed round and round.
fn list(folder: &Path, above: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let here = folder.canonicalize()?;
    if above.len() > MAX_DEPTH || above.contains(&here) {
        return Ok(());
    }
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    entries.sort();
    above.push(here);
    for path in entries {
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden || files.len() > MAX_FILES {
            continue;
        }
        if path.is_dir() {
            // A folder that vanished meanwhile is told by the next change.
            let _ = list(&path, above, files);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            files.push(path);
        }
    }
    above.pop();
    Ok(())
}

fn text(file: &Path) -> Result<String, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    let about = std::fs::metadata(file).map_err(unreadable)?;
    if !about.is_file() {
        return Err("is not a regular file, whose reading could wait for ever; remove it".to_owned());
    }
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    // One byte more than is allowed, since the file may grow while it is read.
    opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is {} bytes; split it into files of at most {MAX_FILE_BYTES}", about.len()));
    }
    Ok(text)
}

fn whole(file: &Path, message: String) -> Problem {
    let file = file.to_string_lossy().as_ref().into();
    Problem { file, position: None, object: None, field: String::new(), message, note: false }
}

/// Keeps the first of several objects of one name, and says where both stand.
fn refuse_duplicates(contents: &mut FolderContents) {
    let mut first: HashMap<ObjectName, (Arc<str>, usize)> = HashMap::new();
    let problems = &mut contents.problems;
    contents.documents.retain(|document| {
        let here = (Arc::clone(&document.file), document.line);
        let Some((file, line)) = first.get(&document.name) else {
            first.insert(document.name.clone(), here);
            return true;
        };
        problems.push(Problem {
            file: Arc::clone(&document.file),
            position: Some(super::Position { line: document.line, column: 1 }),
            object: Some(document.name.clone()),
            field: "metadata.name".to_owned(),
            message: format!("is a duplicate of the one at {file}:{line}, which is used; rename or remove one"),
            note: false,
        });
        false
    });
}

/// Tells of changes below `path` until the receiver is dropped. One message may stand for many changes.
///
/// # Errors
/// When the folder cannot be watched, with what to do about it.
pub fn watch(path: &Path) -> Result<mpsc::Receiver<()>, notify::Error> {
    let (sender, receiver) = mpsc::channel(1);
    let changed = sender.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is no change; an error may hide one.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            let _ = changed.try_send(()); // full: a change is announced already
        }
    })?;
    watcher.watch(path, RecursiveMode::Recursive)?;
    tokio::spawn(async move {
        let _watcher = watcher;
        let mut again = tokio::time::interval(RESCAN);
        loop {
            tokio::select! {
                () = sender.closed() => return,
                _ = again.tick() => drop(sender.try_send(())),
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {externalName: localhost}\n";

    #[test]
    fn reads_sorted_below_the_folder_and_leaves_hidden_names_out() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("b.yaml", SERVICE), ("a/x.yml", "kind: ["), (".hidden.yaml", SERVICE), ("notes.txt", "x")]
        {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folder made");
            std::fs::write(path, text).expect("file written");
        }
        let contents = read(folder.path()).expect("readable");
        assert_eq!(contents.documents.len(), 1);
        assert_eq!(&*contents.documents[0].file, "b.yaml");
        assert_eq!(&*contents.problems[0].file, "a/x.yml");
    }

    #[test]
    fn what_has_not_changed_is_not_read_again_and_a_file_of_secrets_always_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: k}\nstringData: {a: b}\n";
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [("a.yaml", SERVICE), ("k.yaml", secret)] {
            std::fs::write(path(name), text).expect("file written");
        }
        let mut files = Files::default();
        let mut service = || {
            let contents = files.read(folder.path()).expect("readable");
            assert_eq!((contents.documents.len(), contents.problems), (2, vec![]));
            let kept = files.0.keys().cloned().collect::<Vec<_>>();
            let Object::Service(service) = &contents.documents[0].object else { panic!("{:?}", contents.documents) };
            (Arc::clone(service), kept)
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        let (mut last, mut kept) = service();
        while kept.is_empty() && std::time::Instant::now() < deadline {
            (last, kept) = service();
        }
        assert_eq!(kept, [path("a.yaml")], "remembered once it is older than its clock's tick");
        assert!(Arc::ptr_eq(&last, &service().0), "the very same object");
        std::fs::write(path("new"), SERVICE.replace("localhost", "elsewhere")).expect("file written");
        std::fs::rename(path("new"), path("a.yaml")).expect("renamed");
        let name = service().0.spec.as_ref().and_then(|spec| spec.external_name.clone());
        assert_eq!(name.as_deref(), Some("elsewhere"));
    }

    #[test]
    fn a_duplicate_name_is_told_with_both_places() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a.yaml"), SERVICE).expect("file written");
        std::fs::write(folder.path().join("b.yaml"), format!("# second\n---\n{SERVICE}")).expect("file written");
        let contents = read(folder.path()).expect("readable");
        assert_eq!(contents.documents.len(), 1);
        let told = contents.problems[0].to_string();
        assert!(told.starts_with("b.yaml:2") && told.contains("a.yaml:1"), "{told}");
    }

    #[test]
    fn a_mounted_config_map_and_a_link_back_up_are_read_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let version = folder.path().join("..2026_01_01");
        std::fs::create_dir(&version).expect("folder made");
        std::fs::write(version.join("s.yaml"), SERVICE).expect("file written");
        for (from, to) in [("..2026_01_01", "..data"), ("..data/s.yaml", "s.yaml"), (".", "round")] {
            std::os::unix::fs::symlink(from, folder.path().join(to)).expect("linked");
        }
        let contents = read(folder.path()).expect("readable");
        assert_eq!(contents.documents.len(), 1);
        assert_eq!(contents.problems, []);
    }

    #[test]
    fn what_is_no_file_or_too_large_is_told_and_the_rest_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let large = " ".repeat(usize::try_from(MAX_FILE_BYTES).expect("fits") + 1);
        std::fs::write(folder.path().join("a.yaml"), large).expect("file written");
        std::fs::write(folder.path().join("b.yaml"), SERVICE).expect("file written");
        std::os::unix::fs::symlink("nowhere", folder.path().join("c.yaml")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("d.yaml")).expect("bound");
        let contents = read(folder.path()).expect("readable");
        assert_eq!(contents.documents.len(), 1);
        let told: Vec<_> = contents.problems.iter().map(ToString::to_string).collect();
        for (told, says) in
            told.iter().zip(["a.yaml: is 4194305 bytes", "c.yaml: cannot be", "d.yaml: is not a regular"])
        {
            assert!(told.starts_with(says), "{told}");
        }
        assert_eq!(told.len(), 3);
    }

    #[tokio::test]
    async fn a_written_file_is_announced() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut changes = watch(folder.path()).expect("watchable");
        changes.recv().await.expect("the first tick");
        std::fs::write(folder.path().join("a.yaml"), SERVICE).expect("file written");
        let told = tokio::time::timeout(Duration::from_secs(5), changes.recv()).await;
        assert_eq!(told, Ok(Some(())), "sooner than the rescan");
    }
}
