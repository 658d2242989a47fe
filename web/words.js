// Titles of groups and notes of our example workflows in the language of the page; the files themselves are in English.
import { app } from '../../scripts/app.js'

const LANGUAGES = ['zh', 'zh-TW', 'ja']
const TITLES = {
  'Load': ['加载', '載入', '読み込み'],
  'Say what you want': ['说出你想要的', '說出你想要的', '見たいものを書く'],
  'Say what comes next': ['说出接下来发生什么', '說出接下來發生什麼', '続きを書く'],
  'Ask all the same': ['向所有模型提同样的要求', '向所有模型提同樣的要求', '全モデルに同じ指示'],
  'Plan the climb': ['规划各阶段', '規劃各階段', '段階を計画する'],
  'Make': ['生成', '生成', '生成'],
  'Watch': ['观看', '觀看', '見る'],
  'What is learned': ['学什么', '學什麼', '何を学ぶか'],
  'By whom, and how': ['由谁学，怎么学', '由誰學，怎麼學', '誰がどう学ぶか'],
  'Train': ['训练', '訓練', '学習'],
  'Save it': ['保存', '儲存', '保存'],
  'Save it and ask it': ['保存并试用', '儲存並試用', '保存して試す'],
  'Save it and add it': ['保存并加到模型上', '儲存並加到模型上', '保存してモデルに加える'],
  'There and back': ['编码再解码', '編碼再解碼', '符号化して戻す'],
  'Side by side': ['并排比较', '並排比較', '並べて比べる'],
  'By pyramid': ['金字塔', '金字塔', 'ピラミッド'],
  'By flow': ['流匹配', '流匹配', 'フロー'],
  'By diffusion': ['扩散', '擴散', '拡散'],
  'By GAN': ['GAN 生成', 'GAN 生成', 'GAN で'],
  'What comes before': ['之前的内容', '之前的內容', 'その前の映像'],
  'What each stage sees': ['每个阶段看到什么', '每個階段看到什麼', '各段階が見るもの'],
  'The plan, drawn': ['画出的计划', '畫出的計畫', '計画の図'],
  'The latent video': ['潜空间视频', '潛空間影片', '潜在動画'],
  'The clip to go on with': ['要续写的片段', '要續寫的片段', '続きを作るクリップ'],
  'Say what it shows': ['说出画面内容', '說出畫面內容', '何が映るかを書く'],
  'Size and schedule': ['尺寸与调度', '尺寸與排程', 'サイズとスケジュール'],
  'Schedule': ['调度', '排程', 'スケジュール'],
  'Pyramid': ['金字塔', '金字塔', 'ピラミッド'],
  'Draft four': ['四个草稿', '四個草稿', '下書きを四つ'],
  'Finish': ['完成', '完成', '仕上げ'],
  'Finish the good ones': ['完成好的那些', '完成好的那些', '良いものを仕上げる'],
  'About this workflow': ['关于此工作流', '關於此工作流程', 'このワークフローについて']
}

function translated(title, language) {
  const [, number, words] = /^(\d  )?(.*)$/.exec(title ?? '')
  return Object.hasOwn(TITLES, words) ? (number ?? '') + TITLES[words][language] : title
}

app.registerExtension({
  name: 'PyramidVideo.Words',
  afterConfigureGraph() {
    const language = LANGUAGES.indexOf(app.extensionManager?.setting?.get?.('Comfy.Locale'))
    const nodes = app.graph.nodes ?? app.graph._nodes
    if (language < 0 || !nodes.some(node => node.comfyClass?.startsWith('PyramidVideo'))) return
    for (const group of app.graph.groups ?? app.graph._groups) group.title = translated(group.title, language)
    for (const node of nodes) if (node.type === 'MarkdownNote') node.title = translated(node.title, language)
  }
})
