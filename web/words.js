// Titles of groups, and titles and texts of notes, of our example workflows in the language of the page; the files
// themselves are in English. What somebody has changed stays as it is: only whole titles and paragraphs are looked up.
import { app } from '../../scripts/app.js'
import { allGraphs, nodesOf } from './graphs.js'

const LANGUAGES = ['zh', 'zh-TW', 'ja']
const NONE = { titles: {}, notes: {}, templates: {} }

/** The tables of the language of the page; empty ones where it is English or not known here, or they cannot be read. */
export async function words() {
  const language = app.extensionManager?.setting?.get?.('Comfy.Locale')
  if (!LANGUAGES.includes(language)) return NONE
  try {
    const answer = await fetch(new URL(`words/${language}.json`, import.meta.url))
    return answer.ok ? await answer.json() : NONE
  } catch { // no answer, or the page of a proxy in its place
    return NONE
  }
}

const lookUp = (table, text) => (Object.hasOwn(table, text) ? table[text] : text)

function title(text, { titles }) {
  const [, number, plain] = /^(\d  )?(.*)$/.exec(text ?? '') ?? []
  return Object.hasOwn(titles, plain) ? (number ?? '') + titles[plain] : text
}

app.registerExtension({
  name: 'PyramidVideo.Words',
  async afterConfigureGraph() {
    const graphs = allGraphs(), nodes = graphs.flatMap(nodesOf)
    if (!nodes.some(node => node.comfyClass?.startsWith('PyramidVideo'))) return
    const tables = await words()
    if (tables === NONE) return
    for (const group of graphs.flatMap(graph => graph.groups ?? graph._groups)) group.title = title(group.title, tables)
    for (const node of nodes) {
      if (node.type !== 'MarkdownNote') continue
      node.title = title(node.title, tables)
      for (const widget of node.widgets ?? [])
        if (typeof widget.value === 'string')
          widget.value = widget.value.split('\n').map(line => lookUp(tables.notes, line)).join('\n')
    }
    app.graph.setDirtyCanvas?.(true, true)
  }
})
