//! What opening a metadata database has in common, whatever the engine.

use crate::error::MetaError;

/// What a metadata database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// To read an existing volume.
    ReadOnly,
    /// To read and change an existing volume.
    ReadWrite,
    /// To create a volume: the database is created where there is none.
    Create,
}

/// The password of the environment: `META_PASSWORD`, or the first line of the file `META_PASSWORD_FILE` names.
pub fn password_of_environment() -> Result<Option<String>, MetaError> {
    password_from(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn password_from(variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, MetaError> {
    if let Some(password) = variable("META_PASSWORD") {
        return Ok(Some(password));
    }
    let Some(path) = variable("META_PASSWORD_FILE") else { return Ok(None) };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        MetaError::invalid(format!("META_PASSWORD_FILE names {path}, which cannot be read: {error}"))
    })?;
    Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_gives_a_password_or_names_its_file() {
        let file = std::env::temp_dir().join(format!("shoal-meta-password-{}", std::process::id()));
        std::fs::write(&file, "of the file\n").unwrap();
        let of = |password: Option<&str>, path: Option<String>| {
            password_from(move |name| match name {
                "META_PASSWORD" => password.map(str::to_owned),
                _ => path.clone(),
            })
        };
        let path = file.display().to_string();
        assert_eq!(of(None, None).unwrap(), None);
        assert_eq!(of(Some("p"), Some(path.clone())).unwrap().as_deref(), Some("p"));
        assert_eq!(of(None, Some(path)).unwrap().as_deref(), Some("of the file"));
        std::fs::remove_file(&file).unwrap();
        let error = of(None, Some("/no/such/file".into())).unwrap_err().to_string();
        assert!(error.starts_with("META_PASSWORD_FILE names /no/such/file, which cannot be read"), "{error}");
    }
}
