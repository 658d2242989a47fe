// Our example workflows in the template browser: their order, titles and moving pictures. The page itself knows only
// the names of files, in the order of the file system, and pictures that are called NAME.jpg.
import { api } from '../../scripts/api.js'
import { words } from './words.js'

const TITLES = {
  text_to_video: 'Text to video',
  image_to_video: 'Image to video',
  extend_clip: 'Extend a clip',
  look_inside: 'Look inside the pyramid',
  compare_families: 'Four kinds of model compared',
  text_to_video_flow: 'Text to video (flow)',
  text_to_video_ddim: 'Text to video (diffusion)',
  text_to_video_gan: 'Text to video (GAN)',
  draft_then_finish: 'Draft four, finish one',
  finish_a_clip: 'Finish a small clip',
  any_model_small: 'A pyramid for any model',
  train_lora: 'Train a LoRA',
  use_lora: 'Use a LoRA',
  train_pyramid: 'Train a pyramid model',
  train_flow: 'Train a flow model',
  train_diffusion: 'Train a diffusion model',
  train_gan: 'Train a GAN',
  train_vae: 'Train a VAE',
  official_miniflux: 'Pyramid Flow miniFLUX (download first)',
  official_sd3: 'Pyramid Flow SD3 (download first)',
  wan22_text_to_video: 'Wan 2.2 text to video (download first)',
  wan22_image_to_video: 'Wan 2.2 image to video (download first)',
  ltx2_text_to_video: 'LTX-2 text to video (download first)',
  hunyuan15_text_to_video: 'HunyuanVideo 1.5 text to video (download first)',
  minimax_h3_text_to_video: 'MiniMax H3 text to video (download first)',
  wan_train_lora: 'Train a LoRA for Wan 2.1 (download first)',
  helios_text_to_video: 'Helios text to video (download first)',
  helios_image_to_video: 'Helios image to video (download first)',
  helios_video_to_video: 'Helios video to video (download first)'
}
const ORDER = Object.keys(TITLES)
const rank = name => (name in TITLES ? ORDER.indexOf(name) : ORDER.length)

const packs = new Set() // the names under which our folder is listed
const files = new Map() // title -> file name, without its ending
const listed = api.getWorkflowTemplates.bind(api)
const addressed = api.apiURL.bind(api)

api.getWorkflowTemplates = async () => {
  const all = await listed()
  const { templates } = await words()
  for (const [pack, names] of Object.entries(all)) {
    if (!ORDER.slice(0, 4).every(name => names.includes(name))) continue
    packs.add(pack)
    all[pack] = names.sort((one, other) => rank(one) - rank(other)).map(name => {
      const title = templates[TITLES[name]] ?? TITLES[name] ?? name
      files.set(title, name)
      return title
    })
  }
  return all
}

// The page asks for PACK/TITLE.json, and for the picture of PACK/TITLE, to which it adds '.jpg'.
api.apiURL = route => {
  const [, pack, title, json] = /^\/workflow_templates\/([^/]+)\/(.+?)(\.json)?$/.exec(route) ?? []
  if (!packs.has(pack) || !files.has(title)) return addressed(route)
  return addressed(`/workflow_templates/${pack}/${files.get(title)}${json ?? '.webp?for='}`)
}
