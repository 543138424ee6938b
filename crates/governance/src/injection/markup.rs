//! What a text's markup says: tokens and headers of chats, tool calls, links that carry data,
//! hidden elements, and long rows of example turns.

use std::sync::LazyLock;

use regex::Regex;

use super::Signal;

/// Fewest turns of an invented dialogue that are many.
const TURNS_MIN: usize = 6;
/// Fewest turns that are a few.
const TURNS_FEW: usize = 2;

/// A form of markup.
struct Form {
    name: &'static str,
    reason: &'static str,
    weight: f32,
    pattern: &'static str,
}

const FORMS: [Form; 12] = [
    Form {
        name: "system-prompt-spoofing",
        reason: "holds control tokens of a model's chat",
        weight: 0.6,
        pattern: r"(?i)<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id|end_header_id|begin_of_text)\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|\[/?SYSTEM_PROMPT\]",
    },
    Form {
        name: "system-prompt-spoofing",
        reason: "has an element that looks like a system message",
        weight: 0.5,
        pattern: r#"(?i)</?(?:system|system[_-]?prompt|system[_-]?message|admin|developer|instructions?|important)>|\[(?:system|admin|developer)(?:[ _](?:message|note|prompt|override))?\]|\{\s*"role"\s*:\s*"(?:system|developer)""#,
    },
    Form {
        name: "system-prompt-spoofing",
        reason: "has a line that begins like a system message",
        weight: 0.45,
        pattern: r"(?im)^[\s>#*\-=/]*(?:system|system (?:message|prompt|note|notice|override|update)|developer (?:message|note)|admin(?:istrator)? (?:message|note|override)|systemnachricht|message syst[èe]me|mensaje del sistema|системное сообщение)\s*[*\]]*:[^:/\\]",
    },
    Form {
        name: "system-prompt-spoofing",
        reason: "has headings of a prompt",
        weight: 0.4,
        pattern: r"(?im)^\s*#{2,}\s*(?:instructions?|system|new instructions?|response|task|override)\s*:?\s*$|^[-=*_#]{3,}\s*(?:begin|end|start)?\s*(?:of )?(?:system|user|prompt|instructions?|untrusted)[^\n]{0,24}[-=*_#]{3,}\s*$",
    },
    Form {
        name: "tool-smuggling",
        reason: "holds a tool call",
        weight: 0.55,
        pattern: r#"(?i)</?(?:tool_call|tool_calls|function_call|function_calls|tool_use|invoke|tool_result|function_results)\b|"(?:tool_calls?|function_call|tool_name|tool_use)"\s*:|\{\s*"(?:tool|function|action)"\s*:\s*"[a-z_.-]+"\s*,\s*"(?:args|arguments|parameters|input|action_input)"|^action:\s*\S+[\s\S]{0,4}\naction input:|```tool"#,
    },
    Form {
        name: "markup-smuggling",
        reason: "has an image or link whose address carries data",
        weight: 0.55,
        pattern: r"(?i)!\[[^\]\n]{0,80}\]\(\s*https?://[^)\s]+[?&][^)\s]*(?:=\s*[{\[<$]|=$|data|secret|prompt|history|q=|token|key)|<img[^>]+src\s*=\s*.?https?://[^>\s]+\?[^>\s]*(?:data|secret|prompt|history|token|=[{\[<$])",
    },
    Form {
        name: "markup-smuggling",
        reason: "holds script",
        weight: 0.35,
        pattern: r"(?i)<script\b[^>]*>[^<]{0,400}(?:fetch|document\.cookie|eval|location)|javascript:[a-z]|<iframe\b[^>]+(?:srcdoc|https?:)|\bon(?:error|load)\s*=\s*.?(?:fetch|eval|alert|document)",
    },
    Form {
        name: "markup-smuggling",
        reason: "hides instructions in a comment or an element that is not shown",
        weight: 0.45,
        pattern: r"(?i)<!--[^>]{0,200}\b(?:ignore|disregard|assistant|ai|llm|system|instruction|prompt|you must)\b|(?:display\s*:\s*none|font-size\s*:\s*0|visibility\s*:\s*hidden|color\s*:\s*white)[^<]{0,80}>[^<]{0,200}\b(?:ignore|disregard|assistant|ai|instruction|prompt|you must|always)\b|\[//\]:\s*#\s*\(",
    },
    Form {
        name: "tool-smuggling",
        reason: "asks to run a command",
        weight: 0.4,
        pattern: r"(?i)\b(?:run|execute|call|invoke|use)\s+(?:the\s+)?(?:following\s+)?(?:shell\s+|bash\s+|python\s+)?(?:command|tool|function|code|snippet)[^\n]{0,60}(?:rm -rf|curl |wget |os\.system|subprocess|delete|send_email|transfer|https?://)|\b(?:call|invoke|use)\s+(?:the\s+)?[`']?[a-z]+_[a-z_]+[`']?\s+(?:tool|function|with)",
    },
    Form {
        name: "encoded-payload",
        reason: "asks to decode something",
        weight: 0.4,
        pattern: r"(?i)\b(?:decode|decrypt|unscramble|decipher|d[ée]code[rz]?|de[ck]odier\w*|decodifica)\b[^\n]{0,50}\b(?:and|then|und|et|y|e)\b[^\n]{0,30}\b(?:follow|execute|obey|run|do|perform|comply|carry|apply|act|respond|answer|befolge|f[üu]hre|ex[ée]cute|sigue|ejecuta|esegui|segui)",
    },
    Form {
        name: "context-escape",
        reason: "closes a delimiter and gives instructions behind it",
        weight: 0.4,
        pattern: r#"(?i)(?:"""|'''|```|\]\]>|</(?:document|data|context|input|user_input|text|variable|content|article)>|-{5,}|={5,})\s*\n?[^\n]{0,20}\b(?:now|new|ignore|disregard|forget|instead|instructions?|you (?:are|must|will)|system)\b"#,
    },
    Form {
        name: "fabricated-turn",
        reason: "answers for the model",
        weight: 0.35,
        pattern: r"(?im)^\s*(?:assistant|ai|bot|chatgpt|claude|model|assistent)\s*:\s*(?:sure|of course|certainly|okay|ok|yes|absolutely|here|natürlich|bien sûr|claro)\b",
    },
];

static COMPILED: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let compile = |form: &Form| Regex::new(form.pattern).expect("the forms of markup are patterns");
    FORMS.iter().map(compile).collect()
});

static TURN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?im)^\s*[*#<\[]*(user|human|person|question|q|customer|nutzer|utilisateur|usuario|assistant|ai|bot|answer|a|model|assistent|assistente|asistente)[*>\]]*\s*\d{0,3}\s*:")
        .expect("the form of a turn is a pattern")
});

/// What the markup of a text is a sign of.
pub(super) fn signals(text: &str) -> Vec<Signal> {
    let forms = FORMS.iter().zip(COMPILED.iter());
    let mut signals: Vec<Signal> = forms
        .filter(|(_, compiled)| compiled.is_match(text))
        .map(|(form, _)| Signal {
            name: form.name,
            reason: form.reason,
            weight: form.weight,
        })
        .collect();
    signals.extend(turns(text));
    signals
}

/// Rows of invented turns that teach a model by example.
fn turns(text: &str) -> Option<Signal> {
    let speaker = |found: regex::Captures<'_>| {
        let name = found
            .get(1)
            .map_or("", |name| name.as_str())
            .to_ascii_lowercase();
        matches!(
            name.as_str(),
            "user"
                | "human"
                | "person"
                | "question"
                | "q"
                | "customer"
                | "nutzer"
                | "utilisateur"
                | "usuario"
        )
    };
    let speakers: Vec<bool> = TURN.captures_iter(text).map(speaker).collect();
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
