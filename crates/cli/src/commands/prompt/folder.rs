//! A template folder with tests and recordings, as those who write templates see it: each file by
//! itself, so that one that is wrong does not hide the others, and without asking the lock.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use postern_governance::{
    GovernanceError, PromptTests, Recording, Template, TemplateFolder, TemplateId, TemplateSet,
};

/// Mode of files that are written into the folder.
const MODE: u32 = 0o644;

/// A template file with what stands beside it.
pub(crate) struct TemplateEntry {
    pub(crate) file: String,
    pub(crate) template: Result<Template, GovernanceError>,
    /// The test file, if there is one.
    pub(crate) tests: Option<TestEntry>,
    /// What was recorded, if anything was.
    pub(crate) recording: Option<Result<Recording, GovernanceError>>,
}

/// A test file.
pub(crate) struct TestEntry {
    pub(crate) file: String,
    pub(crate) tests: Result<PromptTests, GovernanceError>,
}

/// A template whose file is right.
pub(crate) struct Sound<'f> {
    pub(crate) template: &'f Template,
    pub(crate) entry: &'f TemplateEntry,
}

/// Everything in the folder.
pub(crate) struct PromptFolder {
    pub(crate) dir: PathBuf,
    pub(crate) files: TemplateFolder,
    pub(crate) entries: Vec<TemplateEntry>,
    /// Tests and recordings of no template.
    pub(crate) strays: Vec<String>,
}

impl PromptFolder {
    /// Reads the folder.
    ///
    /// # Errors
    /// A file cannot be read or is too large, or there is no template.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let files = TemplateFolder::read_with_tests(dir)?;
        let entries: Vec<TemplateEntry> = files
            .sources
            .iter()
            .map(|(file, text)| entry(&files, file, text))
            .collect();
        let stems: Vec<&str> = entries.iter().map(|entry| stem(&entry.file)).collect();
        let beside = files.tests.iter().chain(&files.recordings);
        let strays = beside
            .filter(|(file, _)| !stems.contains(&stem_beside(file)))
            .map(|(file, _)| file.clone());
        Ok(Self {
            dir: dir.to_owned(),
            strays: strays.collect(),
            entries,
            files,
        })
    }

    /// The templates that are right.
    pub(crate) fn sound(&self) -> impl Iterator<Item = Sound<'_>> {
        self.entries.iter().filter_map(|entry| {
            let template = entry.template.as_ref().ok()?;
            Some(Sound { template, entry })
        })
    }

    /// One template.
    ///
    /// # Errors
    /// There is none of this id, or its file is wrong.
    pub(crate) fn find(&self, id: &TemplateId) -> anyhow::Result<Sound<'_>> {
        let entry = self
            .entries
            .iter()
            .find(|entry| stem(&entry.file) == id.as_str());
        let entry = entry.with_context(|| {
            let known: Vec<&str> = self.entries.iter().map(|entry| stem(&entry.file)).collect();
            format!(
                "there is no template `{id}` in {}; there are {}",
                self.dir.display(),
                known.join(", ")
            )
        })?;
        match &entry.template {
            Ok(template) => Ok(Sound { template, entry }),
            Err(error) => anyhow::bail!("{error}"),
        }
    }

    /// Fails where an id is asked for that no template has.
    pub(crate) fn require(&self, ids: &[TemplateId]) -> anyhow::Result<()> {
        ids.iter().try_for_each(|id| self.find(id).map(drop))
    }

    /// Puts a file into the folder, whole or not at all.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(name);
        let place = || format!("cannot write {}", path.display());
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).with_context(place)?;
        file.write_all(text.as_bytes()).with_context(place)?;
        let permissions = Permissions::from_mode(MODE);
        file.as_file()
            .set_permissions(permissions)
            .with_context(place)?;
        file.as_file().sync_all().with_context(place)?;
        file.persist(&path).with_context(place)?;
        Ok(path)
    }
}

impl TemplateEntry {
    /// The recording.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn recording(&self) -> Result<Option<&Recording>, &GovernanceError> {
        self.recording.as_ref().map(Result::as_ref).transpose()
    }

    /// Name of the file that the recording is kept in.
    pub(crate) fn recording_file(&self) -> String {
        format!("{}.recorded.json", stem(&self.file))
    }
}

fn entry(files: &TemplateFolder, file: &str, text: &str) -> TemplateEntry {
    let template = TemplateSet::from_sources([(file, text)]).map(|set| {
        let template = set.iter().next();
        template.cloned().expect("one source makes one template")
    });
    let own = |(beside, _): &&(String, String)| stem_beside(beside) == stem(file);
    let tests = files.tests.iter().find(own).map(|(file, text)| TestEntry {
        file: file.clone(),
        tests: PromptTests::from_source(file, text),
    });
    let recorded = files.recordings.iter().find(own);
    let recording = recorded.and_then(|(file, text)| {
        let id = template.as_ref().ok().map(|template| &template.id)?;
        Some(Recording::from_source(file, text, id))
    });
    TemplateEntry {
        file: file.to_owned(),
        template,
        tests,
        recording,
    }
}

/// A template's file name without its ending: the id.
fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// The id that a test file or a recording belongs to.
fn stem_beside(file: &str) -> &str {
    stem(stem(file))
}
