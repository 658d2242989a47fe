// What the graph blocks cannot say in Python: the colours of our own wires, and a width at which file names can be read.
import { app } from '../../scripts/app.js'

const COLOURS = {
  PYRAMID_STAGES: '#2EC4B6',
  SPECTRAL_STAGES: '#3BA7D9',
  PYRAMID_SPECTRUM: '#8FB339',
  PYRAMID_GUIDANCE: '#F4845F',
  PYRAMID_HISTORY: '#8BC34A',
  VIDEO_DATASET: '#5C9DED',
  VIDEO_TRAINEE: '#B56BE8',
  VAE_TRAINEE: '#E5738A',
  TRAINING_SETTINGS: '#E0A526',
  TRAINING_VALIDATION: '#BC8F6F',
  TRAINING_RUN: '#4CAF7A',
  PERCEPTUAL_LOSS: '#E0AFA0'
}
const WIDTH = 300

const known = type => `--color-datatype-${type}` // what Nodes 2.0 looks up; a colour of the user's palette stands over it

function paintNodes() {
  const style = document.createElement('style')
  const rules = Object.entries(COLOURS).map(([type, colour]) => `${known(type)}: ${colour};`)
  const readable = '[data-node-id] .comfy-markdown-content code { color: inherit }' // in notes it is blue on blue there
  style.textContent = `:root { ${rules.join(' ')} } ${readable}`
  document.head.append(style)
}

function paint() {
  for (const colours of [app.canvas?.default_connection_color_byType, window.LGraphCanvas?.link_type_colors])
    for (const [type, colour] of Object.entries(COLOURS))
      if (colours) colours[type] ||= colour // a colour of the user's palette stays
}

app.registerExtension({
  name: 'PyramidVideo.Look',
  setup() {
    paintNodes()
    paint()
  },
  afterConfigureGraph: paint, // another palette, chosen meanwhile, has emptied them
  nodeCreated(node) {
    if (node.comfyClass?.startsWith('PyramidVideo')) node.setSize([Math.max(WIDTH, node.size[0]), node.size[1]])
  }
})
