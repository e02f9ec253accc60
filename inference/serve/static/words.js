// What the page says, in English and Portuguese; the browser's language decides.

export const WORDS = {
  en: {
    page: "Ask about a title", heading: "Ask about a title", skip: "Skip to the question",
    run: "{titles} titles · answers by the run “{run}”, with what each one rests on",
    verdict: "Verdict of its evaluation:", no_verdict: "This run has not been judged yet: give a report of it with --report.",
    to_report: "see the report",
    tabs: "What to do", tab_ask: "Ask", tab_write: "Write descriptions", tab_report: "Report",
    question: "Question", placeholder: "What is … like?", titles: "Titles that may be meant",
    suggested: "{count} titles suggested; use the arrow keys.", about: "About", unchoose: "Not about this title",
    ask: "Ask", stop: "Stop", settings: "Settings", compare: "Show the base model beside it",
    anyway: "Answer even if no title matches (invented)", seed: "Seed (same seed, same answer)",
    answer: "Answer", examples: "For example", example_1: "What is {title} like?", example_2: "Tell me about {title}",
    history: "Earlier in this session", footer: "Everything stays on this server: the page loads nothing from elsewhere.",
    looking: "Looking for the title …", waiting: "Many are asking: {ahead} before you …", writing: "Writing …",
    loading_base: "Loading the base model, the first time …", writing_base: "The base model is writing …",
    done: "Done: {tokens} tokens, seed {seed}.", stopped: "Stopped.", copied_text: "Copied.", copied_link: "Link copied: it brings this answer back.",
    not_copied: "The browser did not allow copying.", thanks: "Thank you, it is kept.",
    other_model: "This link was made with another model: the answer may differ.",
    which: "Several titles may be meant. Choose one:", no_match: "No title of the catalogue matches. Choose a near one, or allow invented answers in the settings.",
    no_match_at_all: "No title of the catalogue matches. Allow invented answers in the settings to get one all the same.",
    empty: "Please type a question about a title first.", too_long: "That is too long: at most {limit} characters, please.",
    seed_wrong: "The seed must be a whole number.", busy: "Too many people are asking right now. Please ask again in a moment.",
    catalogue: "The catalogue is just being renewed. Please ask again in a moment.", failed: "The model could not answer. Please ask again.",
    network: "The server cannot be reached, or it ended. Please ask again in a moment.", form: "The server did not understand that. Reload the page, please.",
    forgotten: "The server no longer knows this answer. Ask again, then vote.", detail: "Details: {detail}",
    you_asked: "You asked", invented: "Not in the catalogue: invented",
    trained: "The model was trained on this title", held_out: "Held out: the model never saw this title",
    unseen: "In the catalogue, but not among the titles trained on", unknown: "Not in the catalogue", untold: "Whether it was trained on is not known",
    base: "Base model, without the adapter", nothing: "The model had nothing to say.", nothing_supported: "The model had nothing to say that title and record support.",
    cut: "The text was cut at the limit of tokens.", loop: "The text was stopped, as it only repeated itself.",
    checks: "Checks", words_all: "All {all} words of the title are in it.", words_some: "{kept} of {all} words of the title are in it; missing: {missing}.",
    numbers_fine: "Every number stands in the title or its record.", numbers_other: "Numbers that neither title nor record holds: {numbers}.",
    left_out: "Left out, as title and record do not support their numbers:",
    recited_none: "No stretch of {least} characters or more is word for word from a text it knows.",
    recited: "{share} of it is word for word:", in_record: "from this title's own record", in_neighbour: "from what it was shown of {title}",
    in_training: "from the training text of {title}", in_several: "from several training texts", unsupported: "in neither title nor record",
    version: "Version {at} of {all}", earlier: "Earlier version", later: "Later version", another: "Another answer",
    copy: "Copy", link: "Link", json: "JSON", up: "Good answer", down: "Bad answer", vote: "Is this a good answer?",
    why: "One word on why (optional)", send: "Send",
    rests: "What this rests on", record: "Catalogue record", no_content: "without a description", uid: "uid {uid}", line: "line at",
    grounded_record: "The prompt showed its own record.", grounded_neighbours: "The prompt showed similar titles: {titles}.",
    instruction: "Asked as “{instruction}”, the wording it was trained with.", also: "Also found",
    list_titles: "Titles, one a line", list_file: "or a CSV file with a column “title”", write: "Write", progress: "Progress",
    list_hint: "At most {most} titles at once.", list_count: "{count} titles.", descriptions: "Descriptions",
    list_waiting: "Other lists are being written: {ahead} before yours …", list_row: "{done} of {rows} written", list_done: "Done: {rows} titles, {refused} without a description.",
    titles_none: "Please paste some titles, or choose a CSV file.", titles_many: "Those are too many: at most {most} titles at once, please.",
    csv: "The file is not a CSV with one column “title”.", list_large: "That is too much text at once: at most 1 MB, please.",
    download: "Download as {form}", column_title: "Title", column_description: "Description", column_notes: "Notes",
    note_invented: "not in the catalogue", note_numbers: "numbers of its own: {numbers}", note_missing: "title words missing: {missing}", note_left_out: "{count} sentences left out",
    note_empty_title: "an empty title", note_refused: "no description: {why}",
    no_report: "There is no report yet: make one with “python -m inference evaluate” and give it with --report.", report_frame: "Report of the run", report_alone: "Open the report by itself",
  },
  pt: {
    page: "Pergunte sobre um título", heading: "Pergunte sobre um título", skip: "Ir para a pergunta",
    run: "{titles} títulos · respostas do modelo “{run}”, com aquilo em que cada uma se apoia",
    verdict: "Veredito da avaliação:", no_verdict: "Este modelo ainda não foi avaliado: informe um relatório com --report.",
    to_report: "ver o relatório",
    tabs: "O que fazer", tab_ask: "Perguntar", tab_write: "Escrever descrições", tab_report: "Relatório",
    question: "Pergunta", placeholder: "O que é …?", titles: "Títulos possíveis",
    suggested: "{count} títulos sugeridos; use as setas.", about: "Sobre", unchoose: "Não é sobre este título",
    ask: "Perguntar", stop: "Parar", settings: "Configurações", compare: "Mostrar o modelo base ao lado",
    anyway: "Responder mesmo sem título correspondente (inventado)", seed: "Semente (mesma semente, mesma resposta)",
    answer: "Resposta", examples: "Por exemplo", example_1: "O que é {title}?", example_2: "Fale sobre {title}",
    history: "Antes, nesta sessão", footer: "Tudo fica neste servidor: a página não carrega nada de fora.",
    looking: "Procurando o título …", waiting: "Muita gente está perguntando: {ahead} antes de você …", writing: "Escrevendo …",
    loading_base: "Carregando o modelo base pela primeira vez …", writing_base: "O modelo base está escrevendo …",
    done: "Pronto: {tokens} tokens, semente {seed}.", stopped: "Parado.", copied_text: "Copiado.", copied_link: "Link copiado: ele traz esta resposta de volta.",
    not_copied: "O navegador não permitiu copiar.", thanks: "Obrigado, foi guardado.",
    other_model: "Este link foi feito com outro modelo: a resposta pode ser diferente.",
    which: "Vários títulos são possíveis. Escolha um:", no_match: "Nenhum título do catálogo corresponde. Escolha um parecido ou permita respostas inventadas nas configurações.",
    no_match_at_all: "Nenhum título do catálogo corresponde. Permita respostas inventadas nas configurações para receber uma assim mesmo.",
    empty: "Primeiro escreva uma pergunta sobre um título.", too_long: "O texto é longo demais: no máximo {limit} caracteres, por favor.",
    seed_wrong: "A semente deve ser um número inteiro.", busy: "Há gente demais perguntando agora. Pergunte de novo em um momento.",
    catalogue: "O catálogo está sendo renovado. Pergunte de novo em um momento.", failed: "O modelo não conseguiu responder. Pergunte de novo.",
    network: "O servidor não responde ou foi encerrado. Pergunte de novo em um momento.", form: "O servidor não entendeu. Recarregue a página, por favor.",
    forgotten: "O servidor já não conhece esta resposta. Pergunte de novo e depois vote.", detail: "Detalhes: {detail}",
    you_asked: "Você perguntou", invented: "Não está no catálogo: inventado",
    trained: "O modelo foi treinado com este título", held_out: "Reservado: o modelo nunca viu este título",
    unseen: "Está no catálogo, mas não entre os títulos de treino", unknown: "Não está no catálogo", untold: "Não se sabe se foi usado no treino",
    base: "Modelo base, sem o adaptador", nothing: "O modelo não teve nada a dizer.", nothing_supported: "O modelo não teve nada a dizer que o título e o registro sustentem.",
    cut: "O texto foi cortado no limite de tokens.", loop: "O texto foi interrompido porque só se repetia.",
    checks: "Verificações", words_all: "Todas as {all} palavras do título estão nele.", words_some: "{kept} de {all} palavras do título estão nele; faltam: {missing}.",
    numbers_fine: "Todos os números estão no título ou no registro.", numbers_other: "Números que nem o título nem o registro trazem: {numbers}.",
    left_out: "Deixado de fora, pois título e registro não sustentam os números:",
    recited_none: "Nenhum trecho de {least} caracteres ou mais é cópia literal de um texto conhecido.",
    recited: "{share} é cópia literal:", in_record: "do registro deste título", in_neighbour: "do que lhe foi mostrado de {title}",
    in_training: "do texto de treino de {title}", in_several: "de vários textos de treino", unsupported: "nem no título nem no registro",
    version: "Versão {at} de {all}", earlier: "Versão anterior", later: "Versão seguinte", another: "Outra resposta",
    copy: "Copiar", link: "Link", json: "JSON", up: "Boa resposta", down: "Má resposta", vote: "Esta resposta é boa?",
    why: "Uma palavra sobre o motivo (opcional)", send: "Enviar",
    rests: "Em que isto se apoia", record: "Registro do catálogo", no_content: "sem descrição", uid: "uid {uid}", line: "linha em",
    grounded_record: "O modelo viu o próprio registro.", grounded_neighbours: "O modelo viu títulos parecidos: {titles}.",
    instruction: "Perguntado como “{instruction}”, a formulação do treino.", also: "Também encontrados",
    list_titles: "Títulos, um por linha", list_file: "ou um arquivo CSV com uma coluna “title”", write: "Escrever", progress: "Progresso",
    list_hint: "No máximo {most} títulos por vez.", list_count: "{count} títulos.", descriptions: "Descrições",
    list_waiting: "Outras listas estão sendo escritas: {ahead} antes da sua …", list_row: "{done} de {rows} escritos", list_done: "Pronto: {rows} títulos, {refused} sem descrição.",
    titles_none: "Cole alguns títulos ou escolha um arquivo CSV.", titles_many: "São títulos demais: no máximo {most} por vez, por favor.",
    csv: "O arquivo não é um CSV com uma coluna “title”.", list_large: "É texto demais de uma vez: no máximo 1 MB, por favor.",
    download: "Baixar como {form}", column_title: "Título", column_description: "Descrição", column_notes: "Notas",
    note_invented: "não está no catálogo", note_numbers: "números próprios: {numbers}", note_missing: "palavras do título ausentes: {missing}", note_left_out: "{count} frases deixadas de fora",
    note_empty_title: "um título vazio", note_refused: "sem descrição: {why}",
    no_report: "Ainda não há relatório: faça um com “python -m inference evaluate” e informe-o com --report.", report_frame: "Relatório do modelo", report_alone: "Abrir o relatório sozinho",
  },
};

const wished = navigator.languages ?? [navigator.language];
export const language = wished.map((name) => name.slice(0, 2).toLowerCase()).find((name) => name in WORDS) ?? "en";

/** Say something, with its values in their places; numbers as this language writes them. */
export function say(name, values = {}) {
  return WORDS[language][name].replace(/\{(\w+)\}/g, (_, key) =>
    typeof values[key] === "number" ? values[key].toLocaleString(language) : values[key]);
}

export const percent = (share) => share.toLocaleString(language, { style: "percent" });

/** Put the page's own labels into this language. */
export function translate() {
  document.documentElement.lang = language;
  document.title = say("page");
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
}
