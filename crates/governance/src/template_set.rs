//! All templates of a folder.
//!
//! Only regular files whose name ends in `.yaml` or `.yml` are read, in byte order of their names;
//! hidden files and other endings are passed over, folders are not entered, and a link with such a
//! name is an error.
//!
//! Invariant: ids are unique and every template has passed its checks; one bad file refuses all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::canonical::Canonical;
use crate::template::Template;
use crate::template_file::parse_template;
use crate::{GovernanceError, source};

/// Most templates of a set.
pub const TEMPLATES_MAX: usize = 1024;
/// Most entries of a template folder, of any kind.
const FOLDER_ENTRIES_MAX: usize = 4 * TEMPLATES_MAX;

/// The templates that can be called, by id.
#[derive(Debug, Clone, Default)]
pub struct TemplateSet {
    templates: BTreeMap<String, Template>,
}

impl TemplateSet {
    /// Reads every template of a folder.
    ///
    /// # Errors
    ///
    /// The first file that is wrong, in byte order of the names, with line and reason; or that
    /// the folder holds none, or too many.
    pub fn load(dir: &Path) -> Result<Self, GovernanceError> {
        let mut sources = Vec::new();
        for path in template_files(dir)? {
            sources.push((source::file_name(&path), source::read(&path)?));
        }
        if sources.is_empty() {
            return Err(GovernanceError::NoTemplates {
                path: dir.to_owned(),
            });
        }
        let borrowed = sources.iter();
        Self::from_sources(borrowed.map(|(file, text)| (file.as_str(), text.as_str())))
    }

    /// Parses templates given as (file name, text).
    ///
    /// # Errors
    ///
    /// The first source that is wrong, with line and reason.
    pub fn from_sources<'s>(
        sources: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Result<Self, GovernanceError> {
        let mut files: BTreeMap<String, &str> = BTreeMap::new();
        let mut templates = BTreeMap::new();
        for (file, text) in sources {
            let template = parse_template(file, text)?;
            let id = template.id.to_string();
            if let Some(first) = files.insert(id.clone(), file) {
                return Err(GovernanceError::DuplicateTemplate {
                    file: file.to_owned(),
                    id,
                    first: first.to_owned(),
                });
            }
            templates.insert(id, template);
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

/// Paths of the template files, sorted by name.
fn template_files(dir: &Path) -> Result<Vec<PathBuf>, GovernanceError> {
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
        if is_template_name(&source::file_name(&path)) {
            files.push(path);
        }
    }
    if files.len() > TEMPLATES_MAX {
        return Err(too_many());
    }
    files.sort();
    Ok(files)
}

fn is_template_name(name: &str) -> bool {
    !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"))
}
