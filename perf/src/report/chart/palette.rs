//! Who has which colour: fixed, so that a peer looks the same in every picture, and told apart by more than
//! colour (the hues are Okabe and Ito's, which the colour-blind can tell apart; dashes where hues end).

use plotters::style::RGBColor;

/// Text and axes.
pub const INK: RGBColor = RGBColor(0x1b, 0x1f, 0x24);
/// Lines behind the data.
pub const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);
/// The time of a fault.
pub const BAND: RGBColor = RGBColor(0xf6, 0xe3, 0xc8);
/// Errors.
pub const ERROR: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
/// What went well.
pub const GOOD: RGBColor = RGBColor(0x00, 0x72, 0xb2);

/// CSS pixels on and off; `None` is a whole line.
type Dash = Option<(u32, u32)>;

/// How a peer's line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub colour: RGBColor,
    /// Thickness, tenths of a CSS pixel.
    pub tenths: u32,
    pub dash: Dash,
}

const VERMILION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const GREEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
const PURPLE: RGBColor = RGBColor(0xcc, 0x79, 0xa7);
const SKY: RGBColor = RGBColor(0x56, 0xb4, 0xe9);
const ORANGE: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
const GREY: RGBColor = RGBColor(0x80, 0x86, 0x8e);

const DASH: Dash = Some((6, 3));
const LONG: Dash = Some((12, 3));
const DOTS: Dash = Some((2, 2));

/// Peers by the beginning of their names; the first that fits.
const LOOKS: [(&str, RGBColor, u32, Dash); 12] = [
    ("sluice@epoll", VERMILION, 26, DASH),
    ("sluice", VERMILION, 26, None),
    ("floor-multishot", GREY, 16, LONG),
    ("floor-epoll", GREY, 16, DASH),
    ("floor", GREY, 16, None),
    ("direct", GREY, 16, DOTS),
    ("haproxy", BLUE, 16, None),
    ("nginx", GREEN, 16, None),
    ("envoy", PURPLE, 16, None),
    ("sglang", SKY, 16, None),
    ("vllm", ORANGE, 16, None),
    ("litellm", INK, 16, None),
];

/// What is left for peers that nobody foresaw.
const OTHERS: [RGBColor; 4] = [BLUE, GREEN, PURPLE, ORANGE];

/// The look of a peer.
pub fn look(peer: &str) -> Look {
    match LOOKS.iter().find(|(name, ..)| peer.starts_with(name)) {
        Some(&(_, colour, tenths, dash)) => Look { colour, tenths, dash },
        None => {
            let sum: usize = peer.bytes().map(usize::from).sum();
            Look { colour: OTHERS[sum % OTHERS.len()], tenths: 16, dash: DASH }
        }
    }
}

/// As the style sheet writes it.
pub fn css(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_peers_look_different() {
        let names = LOOKS.map(|(name, ..)| name);
        for (at, one) in names.iter().enumerate() {
            for other in &names[at + 1..] {
                assert_ne!(look(one), look(other), "{one} {other}");
            }
        }
        assert_eq!(look("sluice@uring"), look("sluice"));
    }
}
