// A loader says before the first run that its folder of official weights is not there. Pages of ComfyUI mark missing
// files only.
import { app } from '../../scripts/app.js'
import { markUnchanged, onChange } from './changes.js'
import { allGraphs, nodesOf } from './graphs.js'
import { show } from './notes.js'

const FILE = /\.(safetensors|sft|bin|ckpt|pth?|gguf)$/i

const isMissing = ({ name, value, options }) =>
  name.endsWith('_name') && typeof value === 'string' && value !== '' && !FILE.test(value) &&
  Array.isArray(options?.values) && !options.values.includes(value)

function update(node) {
  const missing = (node.widgets ?? []).filter(isMissing).map(widget => widget.value)
  if (!missing.length && !node.pyramidVideoMissing) return
  node.pyramidVideoMissing = missing.length > 0
  show(node, missing.map(name => `${name} is not on this server. Official weights come as a folder: docs/official-weights.md ` +
    'of this pack and the note of its workflow have the command that fetches it.').join('\n'))
}

const isLoader = node => node.comfyClass?.startsWith('PyramidVideoLoad')

app.registerExtension({
  name: 'PyramidVideo.Missing',
  nodeCreated(node) {
    if (isLoader(node)) onChange(node, update)
  },
  refreshComboInNodes() {
    for (const node of allGraphs().flatMap(nodesOf)) {
      if (!isLoader(node)) continue
      update(node)
      markUnchanged(node)
    }
  }
})
