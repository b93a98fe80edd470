//! Options of a command line that are numbers: each has a least and a most, and a refusal names both.

use clap::{Command, Parser};
use std::ffi::OsString;
use std::fmt::Display;
use std::str::FromStr;

/// Reads a number from `least` to `most`, and nothing else: no text, and not NaN.
pub fn within<T>(
    least: T,
    most: T,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("{text} is not in {least}..={most}"))
    }
}

/// Reads a command line, its program's name in front.
///
/// # Errors
/// It is not understood, or asks for help.
pub fn read<T: Parser>(words: impl IntoIterator<Item = OsString>) -> Result<T, clap::Error> {
    T::from_arg_matches(&numbered(T::command()).try_get_matches_from(words)?)
}

/// Reads this process's own; ends it where that does not work.
pub fn read_own<T: Parser>() -> T {
    read(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// A negative number is not taken for an option, but refused as the value that it is.
fn numbered(command: Command) -> Command {
    let negative = |arg: clap::Arg| {
        let takes_value = arg.get_action().takes_values();
        arg.allow_negative_numbers(takes_value)
    };
    command.mut_args(negative).mut_subcommands(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_or_no_number_is_refused_with_the_range() {
        let share = within(0.0, 1.0);
        assert_eq!([share("0"), share("1"), share("0.5")], [Ok(0.0), Ok(1.0), Ok(0.5)]);
        for wrong in ["-0.1", "1.01", "7", "NaN", "inf", "-inf", "x", ""] {
            assert_eq!(share(wrong), Err(format!("{wrong} is not in 0..=1")));
        }
        let count = within::<u32>(1, 8);
        assert_eq!([count("1"), count("8")], [Ok(1), Ok(8)]);
        for wrong in ["0", "9", "-1", "1.5", "99999999999"] {
            assert_eq!(count(wrong), Err(format!("{wrong} is not in 1..=8")));
        }
    }
}
