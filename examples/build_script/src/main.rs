//! Says what its build script had translated.

include!(concat!(env!("OUT_DIR"), "/translations.rs"));

fn main() {
    for (language, message, text) in TRANSLATIONS {
        println!("{message} {language}: {text}");
    }
}
