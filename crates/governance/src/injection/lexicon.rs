//! The words that injections are made of, by what they do in a sentence.
//!
//! Words stand here in lower case; lookups pass over diacritics. Absent: word forms that a
//! harmless text has as often, and phrases, which are in [`super::phrases`].

use std::collections::HashMap;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;

/// Languages whose words are known, as ISO 639-1 codes.
pub const LANGUAGES: [&str; 9] = ["en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru"];

/// Longest word whose role is known, in bytes.
pub(super) const ROLE_BYTES_MAX: usize = 32;

/// What a word may do, as bits: some do several.
pub(super) mod role {
    /// "Ignore": says that something no longer holds.
    pub(crate) const OVERRIDE: u16 = 1;
    /// "Previous": says that what stood before is meant.
    pub(crate) const PRIOR: u16 = 2;
    /// "Instructions": what a model was told.
    pub(crate) const RULES: u16 = 4;
    /// "Reveal": asks for something to be told.
    pub(crate) const REVEAL: u16 = 8;
    /// "Credentials": what nobody outside should see.
    pub(crate) const TREASURE: u16 = 16;
    /// "The", "of": may stand anywhere between.
    pub(crate) const FILLER: u16 = 32;
    /// "Your": whose rules they are.
    pub(crate) const YOURS: u16 = 64;
    /// "System": which prompt is meant.
    pub(crate) const HIDDEN: u16 = 128;
    /// "Send": takes something elsewhere.
    pub(crate) const SEND: u16 = 256;
    /// "Injection": of texts about such texts.
    pub(crate) const ABOUT: u16 = 512;
    /// "Assistant": the one who is spoken to.
    pub(crate) const MODEL: u16 = 1024;
}

const TABLE: [(u16, &str); 11] = [
    (
        role::OVERRIDE,
        "ignore ignoring disregard disregarding forget override overriding bypass neglect discard dismiss \
         circumvent abandon unlearn overrule supersede void \
         ignoriere ignorieren ignoriert ignorier vergiss vergesst vergessen missachte missachten umgehe verwirf \
         ignorez ignorer ignores oublie oubliez oublier contourne contournez outrepasse negligez \
         ignora ignorad ignoren ignorar olvida olvidad olviden olvidar omite omitir descarta desobedece \
         ignori ignorate ignorare dimentica dimenticate dimenticare trascura tralascia scavalca \
         esqueca esquecer esquece desconsidere desconsidera ignorem descarte \
         negeer negeren vergeet vergeten omzeil \
         zignoruj ignoruj zapomnij pomin pomijaj \
         игнорируй игнорируйте забудь забудьте проигнорируй проигнорируйте отмени обойди",
    ),
    (
        role::PRIOR,
        "previous prior above earlier preceding former foregoing past existing original initial old everything \
         anything before current aforementioned \
         vorherigen vorherige bisherigen bisherige obigen obige fruheren fruhere vorigen vorangegangenen \
         vorstehenden alles ursprunglichen \
         precedentes precedente precedents precedent anterieures ci-dessus dessus tout initiales \
         anteriores anterior previas previos previa previo antes todo arriba iniciales \
         precedenti precedente sopra tutto iniziali \
         acima tudo iniciais \
         vorige eerdere bovenstaande voorgaande alles \
         poprzednie poprzednich wczesniejsze powyzsze wszystkie \
         предыдущие предыдущих прежние прошлые вышеуказанные все",
    ),
    (
        role::RULES,
        "instructions instruction prompt prompts rules directives directive guidelines guideline commands \
         constraints restrictions guardrails policies programming training orders guidance safeguards filters \
         limitations safety moderation protocols context \
         anweisungen anweisung regeln vorgaben befehle richtlinien instruktionen einschrankungen anordnungen \
         consignes regles directives ordres restrictions contraintes \
         instrucciones instruccion reglas directrices ordenes indicaciones restricciones normas \
         istruzioni istruzione regole direttive ordini comandi restrizioni vincoli \
         instrucoes instrucao regras diretrizes ordens restricoes comandos \
         instructies instructie regels opdrachten richtlijnen beperkingen \
         instrukcje instrukcji polecenia zasady reguly ograniczenia \
         инструкции инструкций правила правил указания команды ограничения",
    ),
    (
        role::REVEAL,
        "reveal print show repeat output tell display give leak dump disclose expose share recite echo summarize \
         list write provide paste reproduce state read share divulge quote return copy spell translate \
         zeige zeig verrate verrat wiederhole nenne gib offenbare drucke schreibe ausgeben \
         affiche affichez montre montrez revele revelez repete repetez donne donnez divulgue imprime \
         muestra muestrame revela revelame repite imprime dime escribe ensename \
         mostra mostrami rivela rivelami ripeti stampa dimmi scrivi \
         mostre mostra revele repita imprima diga escreva \
         toon onthul herhaal geef vertel druk \
         pokaz ujawnij powtorz wypisz podaj \
         покажи покажите раскрой раскройте повтори выведи напиши назови",
    ),
    (
        role::TREASURE,
        "credentials password passwords secrets api-key apikey keys tokens token secret cookies env environment \
         variables configuration passwort passworter zugangsdaten geheimnisse schlussel \
         mots identifiants secretos contrasenas claves credenciales segreti credenziali chiavi senhas segredos \
         wachtwoorden geheimen hasla пароли пароль ключи секреты",
    ),
    (
        role::FILLER,
        "the a an all any of my these those this that and or to me us out so far please just now us what were \
         was have been given you told told by in every each other its it own entire full complete exact verbatim \
         word for hidden very only both here there which i we he they back \
         die der das den dem alle aller deine deinen deiner ihre ihren meine mir und oder bitte jetzt die dir \
         gegebenen sie wir uns vollstandig \
         les le la l des de du toutes tous et ou mes tes vos ces moi nous s il te vous plait \
         las los el todas todos y o mis tus sus estas estos por favor me que te di dieron \
         le gli i tutte tutti tutta e o mie tue sue queste per favore mi che ti \
         as os todas todos e ou minhas suas essas por favor que \
         de het al alle en of mijn jouw je uw deze mij die \
         i lub moje twoje swoje te mi wszystkich \
         и или мои твои свои эти мне",
    ),
    (
        role::YOURS,
        "your yours deine deinen deiner dein ihre ihren tes ton votre vos tu tus su sus tuo tuoi tue suo suas \
         sua teu seu jouw je uw twoje swoje twoj твои твой свои свой ваш ваши",
    ),
    (
        role::HIDDEN,
        "system initial hidden secret internal original developer initialen versteckten geheimen systeme cache \
         sistema inicial oculto oculta nascosto iniziale systemowy verborgen системный системные скрытые above \
         preprompt pre-prompt base first starting confidential",
    ),
    (
        role::SEND,
        "send post upload forward email mail exfiltrate transmit submit deliver fetch request curl call visit \
         sende schicke ubermittle envoie envoyez transmets envia enviar manda invia spedisci envie stuur verstuur \
         wyslij отправь отправьте перешли",
    ),
    (
        role::ABOUT,
        "injection injections jailbreak jailbreaks jailbreaking attack attacks attacker attackers phishing detector \
         detect detects detection classifier adversarial vulnerability owasp malicious defend defense mitigate \
         mitigation red-team redteam security researchers paper tutorial lecture course blog article",
    ),
    (
        role::MODEL,
        "ai assistant assistants chatbot llm llms gpt chatgpt claude gemini copilot model bot agent agents ki \
         assistent ia asistente assistente ии",
    ),
];

static ROLES: LazyLock<HashMap<String, u16>> = LazyLock::new(|| {
    let mut roles = HashMap::new();
    for (role, words) in TABLE {
        for word in words.split_whitespace() {
            *roles.entry(plain(word)).or_default() |= role;
        }
    }
    roles
});

/// What a plain word may do.
pub(super) fn roles_of(word: &str) -> u16 {
    ROLES.get(word).copied().unwrap_or_default()
}

/// The words that have one of the roles, plain.
pub(super) fn words_of(role: u16) -> impl Iterator<Item = &'static str> {
    let words = ROLES.iter().filter(move |(_, roles)| *roles & role != 0);
    words.map(|(word, _)| word.as_str())
}

/// A word in lower case, in compatibility form, without diacritics.
pub(super) fn plain(word: &str) -> String {
    if word.is_ascii() {
        return word.to_ascii_lowercase();
    }
    let parts = word.nfkd().filter(|c| !matches!(c, '\u{300}'..='\u{36f}'));
    parts.flat_map(char::to_lowercase).collect()
}
