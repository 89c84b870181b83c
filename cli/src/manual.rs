//! `completions` and `man`: what a shell and a reader want to know of the command line, made from its own definition, so
//! that neither can say anything else than `--help`.

use std::path::Path;

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::verbs::write;
use crate::say;

/// Prints the completions of a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "keyrotate", &mut script);
    write(&script)?;
    Ok(Exit::Completed)
}

/// Prints the manual page, or writes those of all verbs into a folder.
pub(crate) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let Some(dir) = &args.out else {
        write(&page(Cli::command())?)?;
        return Ok(Exit::Completed);
    };
    std::fs::create_dir_all(dir).map_err(|e| Failure::io("can't make the folder", dir, &e))?;
    let mut command = Cli::command();
    command.build();
    let pages = all(&command);
    for command in &pages {
        let path = dir.join(format!("{}.1", command.get_display_name().unwrap_or(command.get_name())));
        std::fs::write(&path, page(command.clone())?).map_err(|e| Failure::io("can't write", &path, &e))?;
    }
    say(&format!(
        "{} pages in {}; `man -l {}` shows one",
        pages.len(),
        dir.display(),
        dir.join("keyrotate.1").display()
    ));
    Ok(Exit::Completed)
}

/// A command and all below it.
fn all(command: &clap::Command) -> Vec<clap::Command> {
    let below = command.get_subcommands().filter(|command| command.get_name() != "help").flat_map(all);
    std::iter::once(command.clone()).chain(below).collect()
}

fn page(command: clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let written = clap_mangen::Man::new(command).render(&mut page);
    written.map_err(|e| Failure::io("can't write", Path::new("the manual page"), &e))?;
    Ok(page)
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod schema;

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn each_verb_has_its_page() {
        let dir = tempfile::tempdir().unwrap();
        man(&ManArgs { out: Some(dir.path().join("man1")) }).unwrap();
        for page in ["keyrotate", "keyrotate-run", "keyrotate-key-create"] {
            let text = std::fs::read_to_string(dir.path().join(format!("man1/{page}.1"))).unwrap();
            assert!(text.contains(".SH NAME") && text.contains("SYNOPSIS"), "{page}");
        }
    }

    #[test]
    fn each_shell_learns_all_verbs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "keyrotate", &mut script);
            let script = String::from_utf8(script).unwrap();
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
        }
    }
}
