// Titles of groups, and titles and texts of notes, of our example workflows in the language of the page; the files
// themselves are in English. What somebody has changed stays as it is: only whole titles and paragraphs are looked up.
import { app } from '../../scripts/app.js'

const LANGUAGES = ['zh', 'zh-TW', 'ja']

async function wordsOf(language) {
  const answer = await fetch(new URL(`words/${language}.json`, import.meta.url))
  return answer.ok ? answer.json() : { titles: {}, notes: {} }
}

const lookUp = (table, text) => (Object.hasOwn(table, text) ? table[text] : text)

function title(text, { titles }) {
  const [, number, words] = /^(\d  )?(.*)$/.exec(text ?? '') ?? []
  return Object.hasOwn(titles, words) ? (number ?? '') + titles[words] : text
}

app.registerExtension({
  name: 'PyramidVideo.Words',
  async afterConfigureGraph() {
    const language = app.extensionManager?.setting?.get?.('Comfy.Locale')
    const graph = app.graph
    const nodes = graph.nodes ?? graph._nodes
    if (!LANGUAGES.includes(language) || !nodes.some(node => node.comfyClass?.startsWith('PyramidVideo'))) return
    const words = await wordsOf(language)
    for (const group of graph.groups ?? graph._groups) group.title = title(group.title, words)
    for (const node of nodes) {
      if (node.type !== 'MarkdownNote') continue
      node.title = title(node.title, words)
      for (const widget of node.widgets ?? [])
        if (typeof widget.value === 'string')
          widget.value = widget.value.split('\n').map(line => lookUp(words.notes, line)).join('\n')
    }
    graph.setDirtyCanvas?.(true, true)
  }
})
