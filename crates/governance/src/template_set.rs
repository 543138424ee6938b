//! All templates of a folder.
//!
//! Only regular files with the name of a template are read, in byte order of their names: YAML,
//! and Markdown and JSON whose name is an id. Hidden files, tests, recordings and other endings
//! are passed over, folders are not entered, and a link with such a name is an error.
//!
//! Invariant: ids are unique, every template has passed its checks, and where there is a lock
//! file, it records every template as it is; one bad file refuses all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::canonical::Canonical;
use crate::lock::{LOCK_FILE, PromptLock};
use crate::prompt_test::RECORDING_BYTES_MAX;
use crate::source::SOURCE_BYTES_MAX;
use crate::template::Template;
use crate::template_file::{is_template_name, parse_template};
use crate::{GovernanceError, source};

/// Most templates of a set.
pub const TEMPLATES_MAX: usize = 1024;
/// Most entries of a template folder, of any kind.
const FOLDER_ENTRIES_MAX: usize = 4 * TEMPLATES_MAX;

/// What a template folder holds, read but not parsed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TemplateFolder {
    /// Name and text of each template file, in byte order of the names.
    pub sources: Vec<(String, String)>,
    /// Text of the lock file, if there is one.
    pub lock: Option<String>,
    /// Name and text of each test file, in byte order of the names.
    pub tests: Vec<(String, String)>,
    /// Name and text of each recording, in byte order of the names.
    pub recordings: Vec<(String, String)>,
}

impl TemplateFolder {
    /// Reads the files of a folder.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read or is too large; or that the folder holds no template,
    /// or too many.
    pub fn read(dir: &Path) -> Result<Self, GovernanceError> {
        let sources = read_all(dir, is_template_name, SOURCE_BYTES_MAX)?;
        if sources.is_empty() {
            return Err(GovernanceError::NoTemplates {
                path: dir.to_owned(),
            });
        }
        let lock = dir.join(LOCK_FILE);
        // A link that leads nowhere is there too: it is refused, not passed over.
        let lock = match lock.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            _ => Some(source::read(&lock, SOURCE_BYTES_MAX)?),
        };
        Ok(Self {
            sources,
            lock,
            ..Self::default()
        })
    }

    /// Reads the tests and recordings of the folder too, which no daemon needs.
    ///
    /// # Errors
    ///
    /// As [`TemplateFolder::read`].
    pub fn read_with_tests(dir: &Path) -> Result<Self, GovernanceError> {
        let is_test = |name: &str| name.ends_with(".test.yaml") || name.ends_with(".test.yml");
        let is_recording = |name: &str| name.ends_with(".recorded.json");
        Ok(Self {
            tests: read_all(dir, is_test, SOURCE_BYTES_MAX)?,
            recordings: read_all(dir, is_recording, RECORDING_BYTES_MAX)?,
            ..Self::read(dir)?
        })
    }

    /// Parses the templates and checks them against the lock.
    ///
    /// # Errors
    ///
    /// The first file that is wrong, in byte order of the names, with line and reason.
    pub fn templates(&self) -> Result<TemplateSet, GovernanceError> {
        let sources = self.sources.iter();
        let sources = sources.map(|(file, text)| (file.as_str(), text.as_str()));
        match &self.lock {
            Some(lock) => {
                TemplateSet::from_locked_sources(sources, &PromptLock::from_source(lock)?)
            }
            None => TemplateSet::from_sources(sources),
        }
    }
}

/// The templates that can be called, by id.
#[derive(Debug, Clone, Default)]
pub struct TemplateSet {
    templates: BTreeMap<String, Template>,
}

impl TemplateSet {
    /// Reads every template of a folder, and the lock file if there is one.
    ///
    /// # Errors
    ///
    /// As [`TemplateFolder::read`] and [`TemplateFolder::templates`].
    pub fn load(dir: &Path) -> Result<Self, GovernanceError> {
        TemplateFolder::read(dir)?.templates()
    }

    /// Parses templates given as (file name, text), each of which the lock must record.
    ///
    /// # Errors
    ///
    /// The first source that is wrong or is not as recorded.
    pub fn from_locked_sources<'s>(
        sources: impl IntoIterator<Item = (&'s str, &'s str)>,
        lock: &PromptLock,
    ) -> Result<Self, GovernanceError> {
        Self::parse(sources, Some(lock))
    }

    /// Parses templates given as (file name, text).
    ///
    /// # Errors
    ///
    /// The first source that is wrong, with line and reason.
    pub fn from_sources<'s>(
        sources: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Result<Self, GovernanceError> {
        Self::parse(sources, None)
    }

    fn parse<'s>(
        sources: impl IntoIterator<Item = (&'s str, &'s str)>,
        lock: Option<&PromptLock>,
    ) -> Result<Self, GovernanceError> {
        // `coffee.v1` and `coffee_v1` are two spellings of one id.
        let mut files: BTreeMap<(String, String), &str> = BTreeMap::new();
        let mut templates = BTreeMap::new();
        for (file, text) in sources {
            let template = parse_template(file, text)?;
            let (name, version) = template.id.parts();
            if let Some(first) = files.insert((name.to_owned(), version.to_owned()), file) {
                return Err(GovernanceError::DuplicateTemplate {
                    file: file.to_owned(),
                    line: template.line,
                    id: template.id.to_string(),
                    first: first.to_owned(),
                });
            }
            if let Some(lock) = lock {
                lock.check(file, &template)?;
            }
            templates.insert(template.id.to_string(), template);
        }
        Ok(Self { templates })
    }

    /// The template with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Template> {
        self.templates.get(id)
    }

    /// All templates, in byte order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Template> {
        self.templates.values()
    }

    /// How many templates there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// Ids with their checksums.
    pub(crate) fn canonical(&self) -> Canonical {
        let entries = self.templates.iter();
        let entries = entries.map(|(id, t)| (id.clone(), Canonical::text(&t.checksum)));
        Canonical::Object(entries.collect())
    }
}

/// Name and text of the files with such names, sorted.
fn read_all(
    dir: &Path,
    is_wanted: impl Fn(&str) -> bool,
    bytes_max: usize,
) -> Result<Vec<(String, String)>, GovernanceError> {
    let mut sources = Vec::new();
    for path in files(dir, is_wanted)? {
        sources.push((source::file_name(&path), source::read(&path, bytes_max)?));
    }
    Ok(sources)
}

/// Paths of the files with such names, sorted.
fn files(dir: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, GovernanceError> {
    let unreadable = |source| GovernanceError::Read {
        path: dir.to_owned(),
        source,
    };
    let too_many = || GovernanceError::TooManyTemplates {
        path: dir.to_owned(),
        count_max: TEMPLATES_MAX,
    };
    let mut files = Vec::new();
    for (index, entry) in dir.read_dir().map_err(unreadable)?.enumerate() {
        let path = entry.map_err(unreadable)?.path();
        if index >= FOLDER_ENTRIES_MAX {
            return Err(too_many());
        }
        if is_wanted(&source::file_name(&path)) {
            files.push(path);
        }
    }
    if files.len() > TEMPLATES_MAX {
        return Err(too_many());
    }
    files.sort();
    Ok(files)
}
