"""Words that many medical passages hold, so that finding them in one says little.

COMMON   in at least 1 % of the passages of MedQuAD, or of the abstracts and explanations of BioASQ,
         PubMedQA and MedMCQA together; FAMILIAR in .3 % to 1 %. Counted once over the 37,266
         passages that the silos make of them; stop words and ``plain_words`` are left out.
A word in neither is rare: mostly the name of a drug, a disease, a gene or a trial.
"""

from __future__ import annotations

COMMON = frozenset(
    """abdomen abdominal ability abnormal abnormalities abnormality abnormally absent
    accepting acid across activation active activities activity acute addition
    additional address administration adulthood advanced agent agents agonist air
    alcohol almost along alpha altered although among analyses analysis analyzed anemia
    antagonist anti antibiotics antibodies antibody aplasia appearance approved
    approximate approximately area areas arm arms arteries artery arthritis associated
    association ataxia atrophy attack attacks autoimmune autosomal babies baby
    background bacteria balance based behavioral believe below benign beta binding
    biological biopsy birth bladder bleeding block blood bloodstream body bone bones
    born bowel brachydactyly brain break breast breath breathing bridge broad build
    buildup calcium cancer cancers cannot carcinoma cardiac cardiomyopathy carry
    cataract cavity cell cells cellular center central cerebral characteristic
    characterized chemical chemotherapy chest child childhood children cholesterol
    chromatin chromosome chromosomes chronic class cleft close clots cognitive cohort
    collected colon color combination complete complex conclusion conclusions congenital
    contribute control controlled copies copy cord coronary counseling country critical
    cryptorchidism damage damaged data database death decrease decreased defect defects
    deficiency degeneration delay delayed dementia demonstrate demonstrated dental
    depend dependent depending depends depression derived detailed determine development
    developmental diabetes diagnostic diarrhea dictionary die differentiation difficult
    difficulties difficulty digestive directly disability distal distinctive dna doesn
    domain dominant don double dry dysfunction dysplasia dystonia dystrophy ear ears
    effective efficacy encyclopedia energy enlarged enter environmental enzyme episodes
    especially essential estimate estimated european evaluate evaluated even exact
    examined excess excessive exercise experience exposure expressed expression external
    extra eye eyes face facial failure familial families fat fatigue fats fda feature
    features feeding feel feeling feet females fever finger fingers five flow fluid foot
    forehead form formation forms found four fraction fractions free frequencies
    frequent function functional functions gait gastrointestinal genome gland glands
    glucose greater grow growing growth hair hand hands head health healthy hearing
    heart here hereditary hernia histone history hormone hormones hpo human humans
    hypertelorism hypertension hypoplasia hypotonia identification identified identify
    iii imaging immune impaired impairment include included includes including
    independent index individual individuals induced infancy infantile infants infected
    infection infections inflammation inflammatory inheritance inhibition inhibitor
    inhibitors injury inside institute instructions insufficiency insulin intellectual
    internal intestinal intestine investigated involve involves iron irregular joint
    joints kidney kidneys kill kinase laboratory lack larger learn learning legs
    leukemia life lifestyle like limb limbs linked lip liver located location lose loss
    lung lungs lymph lymphoma machine male males malignant manner marrow mass material
    median mediated medical medlineplus members membrane men mental metastatic method
    methods mice microcephaly microscope middle migraine missing model models molecular
    molecule molecules monoclonal motor mouse mouth move movement movements mri multiple
    muscle muscles muscular mutated mutation mutations myopathy narrow nasal national
    nausea nci nearby neck negative nerve nerves nervous neurological neuropathy nih
    nodes non nose novel nuclear nystagmus obesity objective observed ontology open
    optic oral organ organs orphanet outside overall overweight oxygen pain palate
    palliative paralysis past pathway pattern peptide percent percentage period periods
    peripheral phase phenotype physical pictures placebo plasma play plays points poor
    population positive post potent potential pre pregnancy premature presence pressure
    previous previously primarily primary process produce produced producing production
    products progression progressive prominent promising prostate protect protein
    proteins provide provider providers provides pulmonary purpose quality radiation
    radioactive randomized rare rarely ratio ray rays receptor receptors recessive
    recovery recurrent red reduction ref refractory region regions registry regular
    regulation regulatory rehabilitation removal renal report reported researchers
    resistance resistant resources respectively respiratory responsible rest retardation
    retinal revealed review rheumatoid ribs rna rough safety sample scale scan scoliosis
    search secondary section seizures selective sensorineural sequence sequencing serum
    set sex shape shaped shortage shortness shown signaling signals significant
    significantly site sites size skeletal skin skull sleep smoking soft species speech
    spinal spine spleen sporadic state states stature stem stenosis stiffness stomach
    strabismus stress stroke structure structures studied studies subjects substance
    substances sudden sufficient sugar summary support supported surface surgery
    surgical survival swallowing swelling syndactyly system systemic table talk teeth
    tend term terms therapeutic therapies therefore thin think thought threatening
    thrive throat throughout thus thyroid tissue tissues toes tone tool tract
    transcription transcriptional transplant trouble tube tumor tumors tyrosine
    ultrasound unclear underlying underwent united unknown unusual unusually urinary
    urine using vaccine variants varies variety vary vein versus vessel vessels virus
    vision visual vitamin vomiting walking wall want water waves weak weakness website
    weight white wide women worldwide young""".split()
)
FAMILIAR = frozenset(
    """ablation absence absorb abuse accelerated access accompanied account accounts
    accumulate accumulation accuracy accurate achalasia achieved acidemia acidosis acids
    aciduria acquired act acting activated activates activating activator acts actually
    acuity add added additionally adhesion adjuvant administered adolescence adolescents
    adrenal affinity african agenesis aggressive aging aids airway airways algorithm
    allele allergies alopecia als alter alterations alzheimer alzheimers american
    americans amino amyloidosis amyotrophy anal analyze androgen anesthesia aneurysm
    angina angle angles animal animals ankles anomalies anomaly answer antagonists
    anterior anteverted antibiotic anticancer antigen antigens antirheumatic antisense
    antitumor anus anxiety anywhere aorta aortic apnea apoptosis apparent appetite
    application applied approval arched aren arrhythmia arrhythmias arterial arteriosus
    arthralgia article aspiration aspirin assay assays assessment assigned associations
    asthma asymmetry atherosclerosis atp atresia atria atrial attach attached attaches
    attention attenuated atypical auditory authors autism autonomic availability
    avelumab average axial axis bacillus bacterial basal base baseline basic basis bcg
    beam beans began beginning behavior believed beyond bifida bilateral bile biliary
    bind binds biochemical biologic biology biomarker biomarkers bite black
    blepharophimosis blind blindness blistering bloating blockage blocked blockers
    blocking blocks blue blurred bmi bodies bodys bossing bottom bound bowing boys
    breakdown breaks breathe broken brown bruising building builds bullosa bumps burden
    burning button cag calcification calcitonin calculated callosum calmette calories
    camptodactyly canal cancerous candidate canimorsus capacity capnocytophaga
    cardiovascular carpal carried carrier carriers carries cartilage castration cat
    cataracts catheter catheters cavus cdc celiac centers centimeters cerebellar
    cerebellum cerebrospinal cervical cgrp chain chambers channel characterised
    characteristics charcot charged chd checkpoint cheeks chemicals childs chin chloride
    chorea chotzen chromosomal cirrhosis cis ckd classic classical classified clean
    click clinodactyly closely clostridium clot clotting clouding cluster clusters cns
    coa coarse coding cohesin cohorts cold colitis collagen collect collection collects
    coloboma colorectal colored com coma communication community comparison completed
    complexes component components composed compound compounds comprehensive compression
    comprising computational computed computer computerized concentration concentrations
    concept conducted conduction conductive conducts cone confidence confusion congenita
    congestive connective connects consciousness consecutive consensus conserved
    consistent consisting consists consortium constipation contain containing contains
    contaminated content context continuous contract contractions contracture
    contractures contrast contributes controlling controls conventional coordination
    core cornea corneal corner corners coronavirus corpus correlated correlation
    cortical corticosteroids cough coughing count counter countries cov cover covering
    covid cramping cramps cranial craniofacial craniosynostosis crease create creatine
    crohn cross crucial ctcf culture curvature cut cutaneous cutis cycle cyst cystic
    cysts cytokine cytokines dairy damages dangerous dark datasets date deafness
    december decline decreases decreasing deep defective deficient deficit deformities
    degradation degree dehydration dehydrogenase delays deletion deletions delivery
    density department deposits depressed design designed destroy destroyed destruction
    detection deterioration determined deviation device devices dexamethasone diabetic
    dialysis diameter dietary dietitian differential diffuse digest dilated direct
    directed disabilities discomfort discovered discovery dislocation disrupt disrupts
    distinct distinguished distress distribution disturbance disturbances diverse divide
    divided dividing division dizziness dmards doesnt dog doing domains donor dont
    dopamine downstream drink drinking drinks driven drops drosophila dual duct ducts
    ductus duplication durvalumab dwarfism dye dynamic dysarthria dyskinesia dysostosis
    dysphagia easier easily easy ectodermal edema edition education eeg effectively
    effectiveness efficient egfr egg eggs eight elbow elbows electrical elements
    eliminate embryonic emerged emerging emotional empty enamel encephalitis
    encephalopathy encodes encoding endocrine endogenous endoscopic endothelial enhanced
    enhancer enhancers enlarge enlargement enriched enrolled ensure entire entrapment
    environment enzymes epicanthus epidermal epigenetic epilepsy epiphysis epithelial
    equinovarus erenumab eruption erythematosus esophageal esophagus establish
    established estrogen ethnic evaluation event events eventually everyone evolution
    examine excavatum exercises exercising expansion expectancy experimental experiments
    experts explore exposed expressing extensive extent extracellular extreme extremely
    eyebrow eyelashes eyelid eyelids facilitate facility fact fahn fainting fall
    fallopian fashion faster fatal father fathers fatty female femoral fetal fetus fewer
    fiber fibers fibrosis fibrous field fight filled filter final finally fine
    finerenone fingernails fish fissure fistula flat flattening flexible flexion flu
    fluids focal focus focuses folds foreign formed forming forward foundation fracture
    fractures fragile framework friends front frontal frozen fruits fully functioning
    furthermore fusion future gain gallbladder gamma gas gastric gastroesophageal gender
    generalized generated generation genetically genital genitalia genomes genomic
    genotype genu germ gestational girdle girls glaucoma global glycogen gold gotten gov
    grade gradually grains gram grants greatly groin grows growths guide gums habits
    hairline hallucinations harder harmful harrison hdl headache headaches heal
    healthcare heartbeat heat heavy height helpful hematuria hemiparesis hemiplegia
    hemochromatosis hemodialysis hemoglobin hemolytic hemorrhage hemorrhagic hence
    hepatic hepatitis hepatomegaly herpes heterochromatin heterogeneous heterozygous hfe
    highest hip hips histamine hiv hodgkin hold hollow homeostasis hormonal host hot htt
    http https humanized hundred huntingtin huntington hydrocephalus hydroxylase
    hyperactivity hyperkeratosis hyperlordosis hypermobility hyperpigmentation
    hyperplasia hyperreflexia hypertonia hypertrichosis hypertrophic hypertrophy
    hypoglycemia hypogonadism hypoplastic hypospadias hypotension hypothesis
    hypothyroidism ichthyosis identifying idiopathic ifn image images immature immunity
    immunodeficiency immunoglobulin immunotherapy impact impair impairs imperfecta
    implementation implemented implicated importance improvement impulses inability
    inactivation inactive incision incomplete incontinence incoordination increasingly
    independently induce induces induction infant infectious infertility inflamed
    influence influenza infusion inguinal inhibit inhibited inhibiting inhibitory
    inhibits initiated initiation injection injections injuries inner inserted inserts
    institutes institutions instrument intake integrated intelligence intense interact
    interacting interest interface interfere interferes interferon interleukin
    intermediate international interpretation interstitial intervention intestines
    intolerance intracellular intrauterine intravenous introduction invasive inverse
    investigate involuntary involvement involving iris irradiation irritability
    irritation ischemic isn isolated issues itching ixodes january japan jaundice jaw
    junction juvenile keratoderma killing kinases klotho knee knees knowledge
    kyphoscoliosis kyphosis lab label laboratories lactic language laparoscopic larynx
    laser lateral layer layers ldl leak led leg length lens lesion lesions lethal
    lethargy leukoencephalopathy lie lifetime ligand limitation linear link links lipid
    lipoprotein lips liquid literature local localized loci locus logistic loop loose
    losing lost lot lump lumps lupus lymphatic lymphedema lymphoblastic lymphocyte
    lymphocytes lymphocytic lysine lysosomal macrocephaly macrophage macrophages macular
    magnet magnetic maintain maintaining majority malabsorption malar malformation
    malformations malignancies mammalian mammals man mandibular mapping marie marin
    marked marker markers matched materials maternal matrix maturation mature meal meals
    meant measurement measurements meat mediator medium meet melanoma mellitus member
    membranes memory menopause menstrual meta metabolic metabolism metacarpal
    metaphyseal metastasis methotrexate methylation methyltransferase microbiota
    microdeletion micromelia microphthalmia microscopic mid midface migration milder
    milk miller million min mineral minerals minor mir mis missense mitochondria
    mitochondrial mitral mobility mode modification modified modifying modulator mood
    morbidity moreover morphology mother motion moves moving mrna mucosa mucus multi
    multicenter multisystem multivariate mutant myelin myeloid myoclonus myopia nail
    nails nanog nares narrowing natural necrosis needle needles neonatal neoplasm
    nephropathy nephrotic network networks neural neurodegenerative neurodevelopmental
    neurologic neuronal neurons nevus newborn newborns niddk ninds nine nivolumab node
    noncancerous noncoding none nonfunctional notice noticeable novo nsclc nucleosome
    nucleotide nucleus numbness numerous nutrients nutrition nutritional obese
    objectives obstruction obtain obtained occasionally occlusion occupational occurred
    occurrence occurring ocular odds ongoing online onto opening operative orally org
    organization origin osteoarthritis osteoporosis outer outpatient ovarian ovaries
    ovary overactive overexpression overgrowth overview oxidative oxygenation package
    page painful painless pale palm palmar palmoplantar palpebral palsy pan pancreas
    pancreatic parallel parameters paraplegia parasites parathyroid parkinson
    parkinsonism partial partially participants patches patent pathogenesis pathogenic
    pathological pathologist pathways patterns pcr pdq pectus pediatric pelvic pelvis
    pembrolizumab penetrance penis pentad performance periodic peritoneal permanent
    persistent personal personality pes pet phalanges phalanx pharmacokinetics
    pharmacological phenotypes phenotypic philtrum phosphate phosphorylation photophobia
    physically picture piece pigmentation pills pituitary plaque platelet platelets
    platform platyspondyly pluripotency plus pneumonia point polycystic polydactyly
    polyhydramnios polymerase polyps poorly populations portion position posterior
    posteriorly postoperative potassium potentially practice preclinical prediabetes
    predict predicted predicting prediction predictive predictors prednisone
    predominantly pregnant prenatal preoperative prescription presentation press
    prevalent prior probably processes processing produces product professional
    professionals profile profiles profound progeria prognathia prognostic program
    programs progress progresses project proliferation prolonged promoter promoters
    promotes promoting prone properties proportion propose proposed proptosis
    prospective protection protective protects proteinuria provided providing proximal
    pseudotumor psychiatric ptosis puberty public published pump purpura quantitative
    quantity questionnaire quit quitting radial radio radiotherapy radius random
    randomised randomly rapid rapidly rash rat reaction reactions read recognition
    recombinant recorded records recruited rectal rectum recurred recurrence recurring
    redness reductase reference referred refine reflexes reflux regional regression
    regularly regulate regulated regulates regulating regulator regulators relapsed
    relationship relationships relative relatively relatives relax release released
    relief remission remodeling repair replacement replication reports represent
    represents repression reproductive resection resolution resonance resource respect
    restore retention retina retinopathy retrieved retrospective retrospectively
    reviewed rheumatic rhythm rib rich ridge rigidity rise rituximab rnas robust rod
    roof rotated rotavirus round routine rupture saethre salivary salt samples sarcoma
    sars scalp scans scar scarring scientific scientists sclerosis sealed secreted
    secretion sectional seeds seek seem seems segment seizure selected selection self
    send sends sensation sense sensitive sensitivity sensory separate separation septal
    seq sequences series services sets setting seven sexual shock shortened shoulder
    shoulders shrink sick signal signature signatures significance silencing simple
    sinus sitting six skills sle sleeping slightly smaller smell smoke smooth social
    sodium software solid somatic sons sore sores sound sounds source sources space
    spaced sparse spasms spastic spasticity speak speaking specialist specialists
    specialized specializes specifically specificity spectrum sperm sphingosine spina
    spinocerebellar splenomegaly split spontaneous sporadically spot spots squamous
    stable standing statistical statistically steroid steroids stiff stimulating
    stimulation stones stool stools storage store stored stores strand stranded
    strategies strength strokes stroma strong strongly structural subcutaneous
    subsequent subsequently subset substantial subtypes subunit successful suddenly
    suggestive sun super superficial superior supplements supply supportive supports
    suppressor surgeon surgically surrounding surrounds survey survive susceptibility
    swallowed sweating swollen synostosis synthesis synthetic systematic systems
    systolic talipes talking tall tasks team technician technique techniques technology
    teens telangiectasia temperature temporary tends termed terminal testicular tgf
    thalassemia thereby thick thickened thickening thinking thinning thirty thoracic
    thorax thrombocytopenia thrombocytopenic thrombosis throughput thumb tingling tiny
    tip tips tired tiredness tnf tobacco tocilizumab toe toenails tolerability tolerated
    toll tolosa tomography tongue tools tooth top topic topical topics touch toward
    towards toxic toxicity toxin toxins trained training traits transcribed transcripts
    transfer transfusions transient transition transmembrane transmission transmit
    transmitted transplantation transport transverse trauma travel travels tremor
    tremors triad trigger triggered triggers triglycerides triple trunk tubes tubular
    tumour tunnel turn turned twenty ulcer ulcers ultimately umbilical unable unaffected
    uncontrolled underdeveloped undergoing understand understanding understood unique
    unit university unlike untreated upon ups uptake urethra urethral urinate urination
    usa user uterus vaccination vaccines vagina vaginal validated valve valves
    variability variable variables variant variation variations vascular vasculitis
    vegetables veins ventricular ventriculomegaly vermilion version vertebrae vertebral
    video view viewed viral viruses visualization vitamins voice volume waiting walk
    walker walls warm waste wastes wasting weaken weakened wear wearing web whereas
    whites widespread wild wires wnt woman words world wrist www yeast yellow yourself
    zinc zoster""".split()
)
