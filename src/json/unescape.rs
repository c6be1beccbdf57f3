//! The escapes of a string, and the halves of surrogate pairs that they spell.

/// Undoes the escapes of a string that was read. `half` is the first half of a surrogate pair that came before, and the
/// one that is left at the end.
pub(super) fn unescape(text: &str, half: &mut Option<u16>, out: &mut String) {
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.find('\\').unwrap_or(rest.len());
        let (before, escape) = rest.split_at(plain);
        if !before.is_empty() {
            out.extend(half.take().map(|_| char::REPLACEMENT_CHARACTER));
            out.push_str(before);
        }
        let mut chars = escape.chars();
        let c = match (chars.next(), chars.next()) {
            (Some(_), Some('u')) => {
                let unit = escape
                    .get(2..6)
                    .and_then(|digits| u16::from_str_radix(digits, 16).ok());
                rest = escape.get(6..).unwrap_or_default();
                push_unit(unit.unwrap_or_default(), half, out);
                continue;
            }
            (Some(_), Some('b')) => '\u{8}',
            (Some(_), Some('f')) => '\u{c}',
            (Some(_), Some('n')) => '\n',
            (Some(_), Some('r')) => '\r',
            (Some(_), Some('t')) => '\t',
            (Some(_), Some(other)) => other,
            _ => return,
        };
        out.extend(half.take().map(|_| char::REPLACEMENT_CHARACTER));
        out.push(c);
        rest = chars.as_str();
    }
}

/// Appends a UTF-16 unit, joined with the half that waits.
fn push_unit(unit: u16, half: &mut Option<u16>, out: &mut String) {
    if let Some(high) = half.take() {
        if let Some(Ok(joined)) = char::decode_utf16([high, unit]).next() {
            out.push(joined);
            return;
        }
        out.push(char::REPLACEMENT_CHARACTER);
    }
    match unit {
        0xD800..=0xDBFF => *half = Some(unit),
        _ => out.push(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER)),
    }
}
