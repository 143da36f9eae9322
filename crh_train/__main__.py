from crh_train.cli import main

main()
