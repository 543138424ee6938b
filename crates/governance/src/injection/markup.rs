//! What a text's markup says: tokens and headers of chats, tool calls, links that carry data,
//! hidden elements, and long rows of example turns.

use std::sync::LazyLock;

use super::Signal;
use super::form::{self, Forms, LineStart, Place};

/// Fewest turns of an invented dialogue that are many.
const TURNS_MIN: usize = 6;
/// Fewest turns that are a few.
const TURNS_FEW: usize = 2;

/// A form of markup.
struct Form {
    name: &'static str,
    reason: &'static str,
    weight: f32,
    place: Place,
    /// In lower case; begins with one of a few texts, and with no class of characters.
    pattern: &'static str,
}

const FORMS: [Form; 16] = [
    Form {
        name: "system-prompt-spoofing",
        reason: "holds control tokens of a model's chat",
        weight: 0.6,
        place: Place::Anywhere,
        pattern: r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id|end_header_id|begin_of_text)\|>|\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|\[/?system_prompt\]",
    },
    Form {
        name: "system-prompt-spoofing",
        reason: "has an element that looks like a system message",
        weight: 0.5,
        place: Place::Anywhere,
        pattern: r#"</?(?:system|system[_-]?prompt|system[_-]?message|admin|developer|instructions?|important)>|\[(?:system|admin|developer)(?:[ _](?:message|note|prompt|override))?\]|"role"\s*:\s*"(?:system|developer)""#,
    },
    Form {
        name: "system-prompt-spoofing",
        reason: "has a line that begins like a system message",
        weight: 0.45,
        place: Place::LineText,
        pattern: r"(?:system|system (?:message|prompt|note|notice|override|update)|developer (?:message|note)|admin(?:istrator)? (?:message|note|override)|systemnachricht|message syst[èe]me|mensaje del sistema|системное сообщение)\s*[*\]]*:[^:/\\]",
    },
    Form {
        name: "system-prompt-spoofing",
        reason: "has headings of a prompt",
        weight: 0.4,
        place: Place::LineStart,
        pattern: r"#{2}#*\s*(?:instructions?|system|new instructions?|response|task|override)\s*:?\s*$",
    },
    Form {
        name: "system-prompt-spoofing",
        reason: "has headings of a prompt",
        weight: 0.4,
        place: Place::LineStart,
        pattern: r"[-=*_#]{3}[-=*_#]*\s*(?:begin|end|start)?\s*(?:of )?(?:system|user|prompt|instructions?|untrusted)[^\n]{0,24}[-=*_#]{3,}\s*$",
    },
    Form {
        name: "tool-smuggling",
        reason: "holds a tool call",
        weight: 0.55,
        place: Place::Anywhere,
        pattern: r#"</?(?:tool_call|tool_calls|function_call|function_calls|tool_use|invoke|tool_result|function_results)\b|"(?:tool_calls?|function_call|tool_name|tool_use)"\s*:|"(?:tool|function|action)"\s*:\s*"[a-z_.-]+"\s*,\s*"(?:args|arguments|parameters|input|action_input)"|```tool"#,
    },
    Form {
        name: "tool-smuggling",
        reason: "holds a tool call",
        weight: 0.55,
        place: Place::LineStart,
        pattern: r"action:\s*\S+[\s\S]{0,4}\naction input:",
    },
    Form {
        name: "markup-smuggling",
        reason: "has an image or link whose address carries data",
        weight: 0.55,
        place: Place::Anywhere,
        pattern: r"!\[[^\]\n]{0,80}\]\(\s*https?://[^)\s]+[?&][^)\s]*(?:=\s*[{\[<$]|=$|data|secret|prompt|history|q=|token|key)|<img[^>]+src\s*=\s*.?https?://[^>\s]+\?[^>\s]*(?:data|secret|prompt|history|token|=[{\[<$])",
    },
    Form {
        name: "markup-smuggling",
        reason: "holds script",
        weight: 0.35,
        place: Place::Anywhere,
        pattern: r"<script\b[^>]*>[^<]{0,400}(?:fetch|document\.cookie|eval|location)|javascript:[a-z]|<iframe\b[^>]+(?:srcdoc|https?:)|\bon(?:error|load)\s*=\s*.?(?:fetch|eval|alert|document)",
    },
    Form {
        name: "markup-smuggling",
        reason: "hides instructions in a comment or an element that is not shown",
        weight: 0.45,
        place: Place::Anywhere,
        pattern: r"<!--[^>]{0,200}\b(?:ignore|disregard|assistant|ai|llm|system|instruction|prompt|you must)\b|\[//\]:\s*#\s*\(",
    },
    Form {
        name: "markup-smuggling",
        reason: "hides instructions in a comment or an element that is not shown",
        weight: 0.45,
        place: Place::Anywhere,
        pattern: r"(?:display\s*:\s*none|font-size\s*:\s*0|visibility\s*:\s*hidden|color\s*:\s*white)[^<]{0,80}>[^<]{0,200}\b(?:ignore|disregard|assistant|ai|instruction|prompt|you must|always)\b",
    },
    Form {
        name: "tool-smuggling",
        reason: "asks to run a command",
        weight: 0.4,
        place: Place::Anywhere,
        pattern: r"\b(?:run|execute|call|invoke|use)\s+(?:the\s+)?(?:following\s+)?(?:shell\s+|bash\s+|python\s+)?(?:command|tool|function|code|snippet)[^\n]{0,60}(?:rm -rf|curl |wget |os\.system|subprocess|delete|send_email|transfer|https?://)",
    },
    Form {
        name: "tool-smuggling",
        reason: "asks to run a command",
        weight: 0.4,
        place: Place::Anywhere,
        pattern: r"\b(?:call|invoke|use)\s+(?:the\s+)?[`']?[a-z]+_[a-z_]+[`']?\s+(?:tool|function|with)",
    },
    Form {
        name: "encoded-payload",
        reason: "asks to decode something",
        weight: 0.4,
        place: Place::Anywhere,
        pattern: r"\b(?:decode|decrypt|unscramble|decipher|d[ée]code[rz]?|de[ck]odier\w*|decodifica)\b[^\n]{0,50}\b(?:and|then|und|et|y|e)\b[^\n]{0,30}\b(?:follow|execute|obey|run|do|perform|comply|carry|apply|act|respond|answer|befolge|f[üu]hre|ex[ée]cute|sigue|ejecuta|esegui|segui)",
    },
    Form {
        name: "context-escape",
        reason: "closes a delimiter and gives instructions behind it",
        weight: 0.4,
        place: Place::Anywhere,
        pattern: r#"(?:"""|'''|```|\]\]>|</(?:document|data|context|input|user_input|text|variable|content|article)>|-{5}|={5})\s*\n?[^\n]{0,20}\b(?:now|new|ignore|disregard|forget|instead|instructions?|you (?:are|must|will)|system)\b"#,
    },
    Form {
        name: "fabricated-turn",
        reason: "answers for the model",
        weight: 0.35,
        place: Place::LineStart,
        pattern: r"(?:assistant|ai|bot|chatgpt|claude|model|assistent)\s*:\s*(?:sure|of course|certainly|okay|ok|yes|absolutely|here|natürlich|bien sûr|claro)\b",
    },
];

static FOUND_BY: LazyLock<Forms> =
    LazyLock::new(|| Forms::new(FORMS.iter().map(|form| (form.place, form.pattern))));

/// What the markup of a text is a sign of.
pub(super) fn signals(text: &str) -> Vec<Signal> {
    let lines = form::lines(text);
    let found = FOUND_BY.in_text(text, &lines).into_iter();
    let mut signals: Vec<Signal> = found
        .map(|index| Signal {
            name: FORMS[index].name,
            reason: FORMS[index].reason,
            weight: FORMS[index].weight,
        })
        .collect();
    signals.extend(turns(text, &lines));
    signals
}

/// Who asks in an invented dialogue.
const USERS: [&str; 9] = [
    "user",
    "human",
    "person",
    "question",
    "q",
    "customer",
    "nutzer",
    "utilisateur",
    "usuario",
];
/// Who answers.
const MODELS: [&str; 9] = [
    "assistant",
    "ai",
    "bot",
    "answer",
    "a",
    "model",
    "assistent",
    "assistente",
    "asistente",
];
/// Most digits of a turn's number.
const TURN_DIGITS_MAX: usize = 3;

/// Rows of invented turns that teach a model by example.
fn turns(text: &str, lines: &[LineStart]) -> Option<Signal> {
    let turns = lines
        .iter()
        .filter_map(|line| is_user_turn(&text[line.start..]));
    let speakers: Vec<bool> = turns.collect();
    let changes = speakers
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .count();
    let (reason, weight) = match changes {
        TURNS_MIN.. => ("holds many turns of an invented dialogue", 0.55),
        TURNS_FEW.. => ("holds turns of an invented dialogue", 0.25),
        _ => return None,
    };
    Some(Signal {
        name: "many-shot",
        reason,
        weight,
    })
}

/// Whether a line such as `**User 1**:` begins a user's turn, if it begins a turn.
fn is_user_turn(line: &str) -> Option<bool> {
    let line = line.trim_start_matches(['*', '#', '<', '[']);
    let (name, rest) = split_while(line, |c| c.is_ascii_alphabetic());
    let is = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    let is_user = is(&USERS);
    if !is_user && !is(&MODELS) {
        return None;
    }
    let is_mark = |c: char| c.is_whitespace() || "*>]".contains(c);
    let (number, rest) = split_while(rest.trim_start_matches(is_mark), |c| c.is_ascii_digit());
    let is_turn =
        number.len() <= TURN_DIGITS_MAX && rest.trim_start_matches(is_mark).starts_with(':');
    is_turn.then_some(is_user)
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}
