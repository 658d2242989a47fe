// What a block has to say stays on it: after the run, and after the page was loaded again. As text, never as markup.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { markUnchanged } from './changes.js'
import { blockOf } from './graphs.js'

const KEPT = 'Pyramid Video note' // among the properties of a node, which are saved with the workflow
const LONGEST = 4000 // characters
const PICTURES = ['$$canvas-image-preview', '$$comfy_animation_preview'] // the page's own widgets
const PICTURE = 220, LINE = 58 // pixels: the least for a picture, all for where the work is
const MARGINS = 24 // pixels that the canvas keeps around a text; what a block has beyond them goes to its picture

export function show(node, text) {
  if (!node.pyramidVideoNote) {
    if (!text) return
    const box = document.createElement('div')
    box.style.cssText =
      'white-space: pre-wrap; overflow: auto; font-size: 12px; line-height: 1.35; padding: 4px 8px; box-sizing: border-box;' +
      'color: var(--descrip-text, #aaa); user-select: text; height: 100%; width: 100%'
    const height = () => heightOf(box.textContent, node)
    const widget = node.addDOMWidget('note', 'pyramid_video_note', box, {
      serialize: false, hideOnZoom: false, getMinHeight: height, getMaxHeight: () => height() + MARGINS
    })
    widget.serialize = false
    widget.pyramidVideoOwn = true
    node.pyramidVideoNote = box
  }
  node.pyramidVideoNote.textContent = text
  const [width, height] = node.computeSize()
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
}

// On the classic canvas a picture has what other widgets leave, and the line that says where the work is takes half of it.
function makeRoom(node) {
  if (window.LiteGraph?.vueNodesMode) return // there a block grows by itself
  const widgets = node.widgets ?? []
  for (const widget of widgets) if (widget.name === '$$node-text-preview') widget.options.getMaxHeight = () => LINE
  const shown = widgets.find(({ name }) => PICTURES.includes(name))
  const counted = shown?.computeLayoutSize?.(node)?.minHeight ?? 0
  const need = node.computeSize()[1] + Math.max(0, PICTURE - counted)
  if (need <= (node.pyramidVideoNeed ?? 0)) return // once: the block may be made smaller again
  node.pyramidVideoNeed = need
  node.setSize([node.size[0], Math.max(node.size[1], need)])
}

function heightOf(text, node) {
  const letters = Math.max(20, (node.size[0] - 40) / 6.2)
  const lines = text.split('\n').reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / letters)), 0)
  return Math.min(160, 12 + 17 * lines)
}

// An event with a text only would take away the clip that a block shows. Some pages have kept a copy of it by now, so
// that they get it once more, with the clip.
function keepClip({ detail }) {
  const { output } = detail
  if (!output?.text || output.images) return
  const clip = blockOf(detail.display_node || detail.node)?.pyramidVideoClip
  if (!clip) return
  Object.assign(output, { images: clip.images, animated: clip.animated })
  api.dispatchCustomEvent('executed', { ...detail, output })
}

app.registerExtension({
  name: 'PyramidVideo.Notes',
  setup: () => api.addEventListener('executed', keepClip),
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith('PyramidVideo')) return
    const executed = node.onExecuted
    node.onExecuted = function (output) {
      if (output?.images) node.pyramidVideoClip = output
      executed?.apply(this, arguments)
      if (output?.text) {
        const text = output.text.join('\n').slice(0, LONGEST)
        node.properties[KEPT] = text
        show(node, text)
      }
      if (node.pyramidVideoClip) makeRoom(node)
      markUnchanged(node, KEPT)
    }
    const configured = node.onConfigure
    node.onConfigure = function (...values) {
      const answer = configured?.apply(this, values)
      const text = node.properties?.[KEPT]
      if (typeof text === 'string' && text) show(node, text)
      return answer
    }
  }
})
