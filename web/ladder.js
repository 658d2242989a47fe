// The ladder on 'Pyramid stages' and on 'Steps of one stage': drawn by the server from the widgets, before any run.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { allGraphs, nodesOf } from './graphs.js'

const FIRST = 'PyramidVideoStages'
const NEXT = 'PyramidVideoStageSteps'
const WAIT = 150 // milliseconds, in which a value may still be typed
const SHAPE = 0.58 // height over width: a little flatter than the drawing, so that it fits between blocks

// What the widgets of the block and of those before it say, the first first; null where that is not known here.
function planOf(node) {
  if (node?.mode) return null // muted or bypassed
  const widgets = {}
  if (node?.inputs?.some((input, slot) => input.widget && node.isInputConnected(slot))) return null // comes from elsewhere
  for (const widget of node?.widgets ?? []) if (!widget.pyramidVideoOwn) widgets[widget.name] = widget.value
  if (node?.comfyClass === FIRST) return [widgets]
  if (node?.comfyClass !== NEXT) return null
  const before = planOf(node.getInputNode(node.inputs.findIndex(input => input.name === 'stages')))
  return before && [...before, widgets]
}

function later(node) {
  clearTimeout(node.pyramidVideoDue)
  node.pyramidVideoDue = setTimeout(() => draw(node), WAIT)
}

function draw(node) {
  if (!node.graph) return // taken away meanwhile, or not put anywhere yet
  const picture = node.pyramidVideoLadder
  const plan = planOf(node)
  const address = plan && api.apiURL(`/pyramid_video/ladder?plan=${encodeURIComponent(JSON.stringify(plan))}`)
  picture.style.visibility = address ? 'visible' : 'hidden'
  if (address && picture.src !== new URL(address, location.href).href) picture.src = address
  for (const next of node.getOutputNodes(0) ?? []) if (next.comfyClass === NEXT) later(next)
}

app.registerExtension({
  name: 'PyramidVideo.Ladder',
  nodeCreated(node) {
    if (node.comfyClass !== FIRST && node.comfyClass !== NEXT) return
    const picture = document.createElement('img')
    picture.alt = 'The ladder of these numbers'
    picture.style.cssText = 'width: 100%; height: 100%; object-fit: contain; pointer-events: none'
    picture.onerror = () => (picture.style.visibility = 'hidden') // the block says why when it runs
    node.pyramidVideoLadder = picture
    for (const widget of node.widgets ?? []) {
      const changed = widget.callback
      widget.callback = function (...values) {
        later(node)
        return changed?.apply(this, values)
      }
    }
    const height = () => Math.round(node.size[0] * SHAPE)
    const widget = node.addDOMWidget('ladder', 'pyramid_video_ladder', picture, {
      serialize: false, hideOnZoom: false, getMinHeight: height, getMaxHeight: height
    })
    widget.serialize = false
    widget.pyramidVideoOwn = true
    for (const name of ['onAdded', 'onConfigure', 'onConnectionsChange']) {
      const before = node[name]
      node[name] = function (...values) {
        later(node)
        return before?.apply(this, values)
      }
    }
  },
  afterConfigureGraph() {
    for (const node of allGraphs().flatMap(nodesOf)) if (node.pyramidVideoLadder) later(node)
  }
})
